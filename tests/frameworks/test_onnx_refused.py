"""What `from_onnx` refuses, as a table of calls and of the errors that a user would see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrnn
import support.onnx_models
from support.errors import bad_calls, raises_as_said
from support.onnx_models import WEIGHTS, H, helper, layer, make, onnx, tensor


def gru(**attributes: Any) -> Any:
    return fastrnn.from_onnx(make(layer(**attributes)))


def lstm(inputs: str = "X W R", changes: dict[str, Any] | None = None, **attributes: Any) -> Any:
    return fastrnn.from_onnx(make(layer("LSTM", inputs, **attributes), weights={**WEIGHTS["LSTM"], **(changes or {})}))


def both(**attributes: Any) -> Any:
    """from_onnx of a bidirectional GRU."""
    weights = {name: np.concatenate([array, array]) for name, array in WEIGHTS["GRU"].items()}
    return fastrnn.from_onnx(make(layer(direction="bidirectional", **attributes), weights=weights))


def sparse(name: str) -> Any:
    values, indices = tensor(np.ones(1, "f4"), name), tensor(np.zeros(1, "i8"))
    return helper.make_sparse_tensor(values, indices, [1, 12, 3])


def referring() -> Any:
    node = layer()
    node.attribute.add(name="hidden_size", ref_attr_name="h", type=onnx.AttributeProto.INT)
    return node


def twice() -> Any:
    node = layer(hidden_size=H)
    node.attribute.append(node.attribute[0])
    return node


TABLE = r"""
The call
>>> load(3)
TypeError: path_or_model: expected a path or an onnx.ModelProto, got int
>>> load(make().SerializeToString())
TypeError: path_or_model: expected a path or an onnx.ModelProto, got bytes; onnx.load_model_from_string makes a ...
>>> load(make().graph)
TypeError: path_or_model: expected a path or an onnx.ModelProto, got GraphProto
>>> load(make(), 0)
TypeError: node: expected a str or None, got int
>>> load(make(), dtype="float16")
TypeError: dtype: expected float32, float64 or None, got 'float16'
>>> load(make(), target="sse")
ValueError: target: ...
>>> load(make(), "")
ValueError: node: expected one of 'layer' (GRU, input size 3, hidden size 4), got ''
>>> load(make(), "lstm")
ValueError: node: expected one of 'layer' (GRU, input size 3, hidden size 4), got 'lstm'
>>> load(make(layer("c\nGRU", domain="a"), layer(output="Z")))
ValueError: node: expected the name of one of 'layer' (a.c\nGRU, input size 3, hidden size 4), 'layer' (GRU, ...
>>> load(make(layer(domain="a\nb"), layer(output="Z")))
ValueError: node: expected the name of one of 'layer' (a\nb.GRU, input size 3, hidden size 4), 'layer' (GRU, ...
>>> load(make(layer(), layer("RNN", output="Z", name="b")))
ValueError: node: expected the name of one of 'layer' (GRU, input size 3, hidden size 4), 'b' (RNN, ...), got None
>>> load(make(layer(), layer(output="Z")), "layer")
ValueError: node: expected a name that one node has, got 'layer', the name of 2 of them: ...; take 'Y', 'Z'
>>> load(make(constant("Y", numbers(1))))
ValueError: path_or_model: expected a model with an RNN, LSTM or GRU node, got one without
>>> load(make(*[layer(output=str(k), name=str(k)) for k in range(30)]))
ValueError: node: expected the name of one of '0' ...'19' (GRU, input size 3, hidden size 4) and 10 more, got None

The node
>>> load(make(layer("DynamicQuantizeGRU", domain="com.microsoft")))
ValueError: node 'layer': expected RNN, LSTM or GRU of ONNX's own domain, got com.microsoft...; the model from ...
>>> load(make(opset=6))
ValueError: node 'layer': opset: expected 7 or newer, got 6; before that attributes and optional inputs were others; ...
>>> load(make(layer(inputs="X W R B - h c")))
ValueError: node 'layer': inputs: expected at most 6, which is what GRU has, got 7
>>> load(make(layer(inputs="X W")))
ValueError: node 'layer': R: expected an input of the node, got none
>>> load(make(layer(inputs="X - R")))
ValueError: node 'layer': W: expected an input of the node, got none
>>> load(make(layer(), layer("Add")), "Y")
ValueError: 'Y': expected one definition in a graph, got two

Attributes
>>> gru(direction="backward")
ValueError: node 'layer': direction: expected one of 'forward', 'reverse', 'bidirectional', got 'backward'
>>> gru(direction=1)
ValueError: node 'layer': direction: expected a string, got 1
>>> gru(hidden_size=5)
ValueError: node 'layer': W: expected (1, 15, 3) (forward, hidden size 5), got (1, 12, 3)
>>> gru(hidden_size=0)
ValueError: node 'layer': hidden_size: expected at least 1, got 0
>>> gru(hidden_size=4.0)
ValueError: node 'layer': hidden_size: expected an integer, got 4.0
>>> gru(linear_before_reset=2)
ValueError: node 'layer': linear_before_reset: expected one of 0, 1, got 2
>>> gru(layout=2)
ValueError: node 'layer': layout: expected one of 0, 1, got 2
>>> load(make(layer(layout=0), opset=13))
ValueError: node 'layer': 'layout': expected an attribute that GRU has in opset 13 (activations, ...), got one of ...
>>> gru(input_forget=1)
ValueError: node 'layer': 'input_forget': expected an attribute that GRU has in opset 22 (...), got one of another name
>>> lstm(input_forget=-1)
ValueError: node 'layer': input_forget: expected one of 0, 1, got -1
>>> gru(clip=0.0)
ValueError: node 'layer': clip: expected a positive number or None, got 0.0
>>> gru(clip=float("nan"))
ValueError: node 'layer': clip: expected a finite number, got nan
>>> gru(clip=1)
ValueError: node 'layer': clip: expected a float, got 1
>>> gru(clip=tensor(np.zeros((1, 2), "f4"), "t"))
ValueError: node 'layer': clip: expected a float, got dims: 1 dims: 2 data_type: 1 name: "t" raw_data: ...
>>> load(make(referring()))
ValueError: node 'layer': 'hidden_size': expected a value, got that of whoever calls the graph
>>> load(make(twice()))
ValueError: node 'layer': 'hidden_size': expected one attribute of that name, got two

Activations
>>> gru(activations=["Sigmoid"])
ValueError: node 'layer': activations: expected 2 names, 2 for each direction, got 1
>>> both(activations=["Sigmoid", "Tanh"])
ValueError: node 'layer': activations: expected 4 names, 2 for each direction, got 2
>>> both(activations=["Sigmoid", "Tanh", "Sigmoid", "Relu"])
ValueError: node 'layer': activations: expected the same in both directions, since params have one set, got ...
>>> both(activations=["HardSigmoid", "Tanh"] * 2, activation_alpha=[0.25])
ValueError: node 'layer': activations: expected the same in both directions, since params have one set, got ...
>>> gru(activations="Sigmoid")
ValueError: node 'layer': activations: expected strings, got b'Sigmoid'
>>> gru(activations=["Sigmoid", b"\xff"])
ValueError: node 'layer': activations: expected strings, got [b'Sigmoid', b'\xff']
>>> gru(activations=["Sigmoid", "Elu"])
ValueError: node 'layer': activations: expected Tanh, ... or Affine, got 'Elu', which fastrnn does not have
>>> gru(activations=["Sigmoid", "LeakyRelu"], activation_alpha=[0.1])
ValueError: node 'layer': activations: expected Tanh, ... got 'LeakyRelu', which fastrnn does not have
>>> gru(activations=["Sigmoid", "ThresholdedRelu"])
ValueError: node 'layer': activations: expected Tanh, ... got 'ThresholdedRelu', which fastrnn does not have
>>> gru(activations=["Sigmoid", "ScaledTanh"])
ValueError: node 'layer': activations: expected Tanh, ... got 'ScaledTanh', which fastrnn does not have
>>> gru(activations=["Sigmoid", "Softplus"])
ValueError: node 'layer': activations: expected Tanh, ... got 'Softplus', which fastrnn does not have
>>> gru(activations=["Sigmoid", "Affine"])
ValueError: node 'layer': activations: expected an alpha and a beta for Affine, which has no ... got alpha None ...
>>> gru(activations=["Sigmoid", "Affine"], activation_alpha=[0.5])
ValueError: node 'layer': activations: expected an alpha and a beta for Affine, ... got alpha 0.5 and beta None
>>> gru(activation_alpha=[0.5])
ValueError: node 'layer': activation_alpha: expected one number for each activation that takes alpha, which are 0, got 1
>>> gru(activations=["HardSigmoid", "Tanh"], activation_beta=[0.5, 0.5])
ValueError: node 'layer': activation_beta: expected one number for each activation that takes beta, which are 1, got 2
>>> gru(activation_alpha=[1])
ValueError: node 'layer': activation_alpha: expected floats, got [1]

Weights
>>> load(make(inputs=["W"], W=None))
ValueError: node 'layer': W: expected a constant, got 'W', an input of the graph
>>> load(make(W=None))
ValueError: node 'layer': W: expected a constant, got 'W', which nothing in the model defines
>>> load(make(W=numbers(1, 12, 3).astype("f2")))
ValueError: node 'layer': W: expected float32 or float64, got float16; dtype='float32' converts the weights, ...
>>> load(make(R=onnx.helper.make_tensor("R", 16, [1, 12, 4], [0.0] * 48)))
ValueError: node 'layer': R: expected float32 or float64, got bfloat16; dtype='float32' converts the weights, ...
>>> load(make(W=numbers(1, 12, 3).astype("f2")), dtype="float32")
ValueError: node 'layer': R: expected float16, since W is, got float32
>>> load(make(W=np.zeros((1, 12, 3), "i1")), dtype="float32")
ValueError: node 'layer': W: expected float32 or float64, got int8
>>> load(make(W=onnx.helper.make_tensor("W", 17, [1, 12, 3], [0.0] * 36)), dtype="float32")
ValueError: node 'layer': W: expected a tensor of float32, ... or bool, got float8e4m3fn
>>> load(make(R=numbers(1, 12, 4, dtype="f8")))
ValueError: node 'layer': R: expected float32, since W is, got float64
>>> load(make(W=numbers(12, 3)))
ValueError: node 'layer': W: expected 3 axes, got (12, 3)
>>> load(make(W=numbers(2, 12, 3)))
ValueError: node 'layer': W: expected (1, 12, 3) (forward, hidden size 4), got (2, 12, 3)
>>> load(make(B=numbers(1, 12)))
ValueError: node 'layer': B: expected (1, 24) (forward, hidden size 4), got (1, 12)
>>> load(make(R=numbers(1, 12, 0)))
ValueError: node 'layer': R: expected at least one column, got (1, 12, 0)
>>> lstm("X W R B - - - P", {"P": numbers(1, 16)})
ValueError: node 'layer': P: expected (1, 12) (forward, hidden size 4), got (1, 16)
>>> load(make(constant("W", value_floats=[1.0]), layer(), W=None))
ValueError: node 'layer': W: expected 3 axes, got (1,)
>>> load(make(constant("W", value_string="1.0"), layer(), W=None))
ValueError: node 'layer': W: expected a Constant of numbers, got its attribute 'value_string'
>>> load(make(node("Constant", [], ["W", "R"], value_float=1.0), layer(), W=None, R=None))
ValueError: node 'layer': W: expected a Constant with one output, got 2
>>> load(make(node("Identity", ["w"], ["W", "R"]), layer(), W=None, R=None, w=numbers(1, 12, 3)))
ValueError: node 'layer': W: ...
>>> load(make(constant("W", sparse_value=sparse("")), layer(), W=None))
ValueError: node 'layer': W: expected a dense constant, got 'W', a sparse one
>>> load(make(W=external("weights")))
ValueError: node 'layer': W: expected its data in the model, got a reference to a file; from_onnx takes the model's ...

States and lengths
>>> load(make(layer(inputs="X W R B - h"), h=numbers(1, 1, 4)))
ValueError: node 'layer': initial_h: expected none, or an input of the graph, got a constant; params have no state: ...
>>> load(make(layer(inputs="X W R B - h"), h=numbers(1, 1, 1, 4)))
ValueError: node 'layer': initial_h: expected (1, B, 4), got (1, 1, 1, 4)
>>> load(make(layer(inputs="X W R B - h"), h=np.zeros((1, 2, 8), "f4")))
ValueError: node 'layer': initial_h: expected (1, B, 4), got (1, 2, 8)
>>> load(make(layer(inputs="X W R B - h", layout=1), h=np.zeros((1, 2, 4), "f4")))
ValueError: node 'layer': initial_h: expected (B, 1, 4), got (1, 2, 4)
>>> lstm("X W R B - - c", {"c": numbers(1, 1, 4)})
ValueError: node 'layer': initial_c: expected none, ... take the input off the node and pass state= to the call
>>> load(make(layer(inputs="X W R B n"), n=np.array([2, 3], "i4")))
ValueError: node 'layer': sequence_lens: expected none, ... take the input off the node and pass lengths= to the call
>>> load(make(layer(inputs="X W R B - h")))
ValueError: node 'layer': initial_h: expected a constant, got 'h', which nothing in the model defines
"""


@pytest.mark.parametrize(("call", "error", "message"), bad_calls(TABLE, at_least=60))
def test_refused(call: str, error: str, message: str) -> None:
    with raises_as_said(error, message):
        eval(call, vars(support.onnx_models) | globals() | {"load": fastrnn.from_onnx, "node": helper.make_node})


def test_alphas_and_betas_are_used_up_in_order() -> None:
    """Only activations that take an alpha use one up; a HardSigmoid without one has ONNX's default."""
    params = lstm(activations=["Sigmoid", "Affine", "HardSigmoid"], activation_alpha=[0.5], activation_beta=[0.25])
    weights = fastrnn.LSTMParams(
        lstm().weights, activation=("linear", 0.5, 0.25), output_activation=("hard_sigmoid", 0.2, 0.5)
    )
    assert params == weights
