"""ONNX: whole models, recurrent nodes as params, and operators for ONNX's own evaluator that run on fastrnn.

Importing this module does not import the packages onnx and onnxruntime: calling its functions does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrnn.onnx.inference import NodeArg, Report, Session

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

    from numpy.typing import DTypeLike
    from onnx import ModelProto
    from onnx.reference.op_run import OpRun

    from fastrnn._types import Precision, TargetName
    from fastrnn.params import GRUParams, LSTMParams, RNNParams

__all__ = ["NodeArg", "Report", "Session", "from_onnx", "ops", "session"]


def from_onnx(
    path_or_model: str | os.PathLike[str] | ModelProto,
    node: str | None = None,
    *,
    dtype: DTypeLike | None = None,
    target: TargetName | None = None,
    precision: Precision | None = None,
    requantize: bool = False,
) -> RNNParams | LSTMParams | GRUParams:
    """Take the weights and attributes of an RNN, LSTM or GRU node, or of ONNX Runtime's DynamicQuantizeLSTM.

    Parameters
    ----------
    path_or_model : str, PathLike or onnx.ModelProto
        A file, beside which external data are looked for, or a model.
    node : str, optional
        The node's name, or the name of one of its outputs; or, where nodes share these, what ``fastrnn inspect`` lists,
        such as ``"#3"``. Not needed where the model has one recurrent node. Nodes in bodies of If, Loop and Scan and in
        the model's functions count.
    dtype : "float32", "float64" or None
        Converts the weights, which float16 and bfloat16 ones need, or a `precision`; None: as the weights are.
    target : str or None
        As in `RNNParams`.
    precision : str or None
        As in `RNNParams`: "float16" holds float16 weights exactly, and rounds others. Of a DynamicQuantizeLSTM node,
        None means "int8", which holds its bytes and scales as they are; others have the floats that these stand for.
    requantize : bool
        Round the weights of a DynamicQuantizeLSTM node anew where int8 does not hold them exactly, which is an error
        without: bytes less their zero point that are beyond -128 and 127.

    Returns
    -------
    RNNParams, LSTMParams or GRUParams
        One layer in the node's direction or directions; `batch_first` with ``layout=1``. Weights that other nodes
        compute from constants alone are computed. Initial states and lengths that are not constants are arguments of
        the call. Y is (T, D, B, H) in ONNX; ours is (T, B, D*H).

    Raises
    ------
    TypeError
        Neither a path nor a model; a `node`, a `target` or a `precision` that is not a str; another `dtype`.
    ValueError
        Not an ONNX file, no such node, several nodes and no `node`, or a node that params cannot do exactly: the
        message names the attribute or input, and says why. float16 weights with neither `dtype` nor `precision`.
    OSError
        A file cannot be read.
    ImportError
        The package onnx is not installed.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> from onnx import helper, numpy_helper
    >>> weights = {"W": np.ones((1, 60, 8), "float32"), "R": np.zeros((1, 60, 20), "float32")}
    >>> node = helper.make_node("GRU", ["X", "W", "R"], ["Y"], hidden_size=20)
    >>> tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    >>> model = helper.make_model(helper.make_graph([node], "layer", [], [], tensors))
    >>> params = fastrnn.from_onnx(model)
    >>> params.input_size, params.hidden_size, params.direction
    (8, 20, 'forward')
    """
    from fastrnn.onnx.load import params_of

    return params_of(path_or_model, node, dtype=dtype, target=target, precision=precision, requantize=requantize)


def ops() -> list[type[OpRun]]:
    """Operators RNN, LSTM and GRU for ``onnx.reference.ReferenceEvaluator(model, new_ops=fastrnn.onnx.ops())``.

    They follow the specification where that evaluator's own leave something out (clip, input_forget, sequence_lens,
    activations), and are as fast as fastrnn. Weights may come at run time. The evaluator does not hand new operators
    on to a model's functions; ``onnx.inliner.inline_local_functions(model)`` puts these into the graph.

    Returns
    -------
    list of type
        Subclasses of ``onnx.reference.op_run.OpRun``.

    Raises
    ------
    ImportError
        The package onnx is not installed.

    Examples
    --------
    >>> import fastrnn.onnx
    >>> [operator.__name__ for operator in fastrnn.onnx.ops()]
    ['RNN', 'LSTM', 'GRU']
    """
    from fastrnn.onnx import model  # noqa: F401 -- first, since it says how to install onnx
    from fastrnn.onnx.operators import GRU, LSTM, RNN  # loading the evaluator takes longer than all else

    return [RNN, LSTM, GRU]


def session(
    path_or_model: str | os.PathLike[str] | bytes | ModelProto,
    threads: int | None = None,
    *,
    cut: str | Collection[str] = "auto",
    precision: Precision | None = None,
    requantize: bool = False,
) -> Session:
    """Make a whole model ready to run: its recurrent nodes on fastrnn, the rest in ONNX Runtime.

    The session has the calls of ONNX Runtime's ``InferenceSession``. The model is cut at its RNN, LSTM, GRU and
    DynamicQuantizeLSTM nodes. Those that can't be cut stay in ONNX Runtime: nodes in bodies of If, Loop and Scan and in
    functions, those with attributes that params do not carry, those whose weights are not constants. The session's
    ``report`` says which and why.

    Parameters
    ----------
    path_or_model : str, PathLike, bytes or onnx.ModelProto
        A file, beside which external data are looked for, or a model.
    threads : int, optional
        The most threads of a call, in fastrnn and in ONNX Runtime. None for `fastrnn.get_num_threads`.
    cut : "auto", "always", "never" or a list of str
        "auto" measures: the first call of each class of shapes (all sizes within a factor of two) runs the model both
        ways some times, and the faster way is taken from then on. "always" and "never" decide beforehand, and a list
        names the nodes to cut.
    precision : str or None
        Of the weights of nodes that are cut, as in `RNNParams`. None: as they are, which is "int8" for
        DynamicQuantizeLSTM.
    requantize : bool
        As in `from_onnx`.

    Returns
    -------
    Session

    Raises
    ------
    TypeError
        An argument of another type.
    ValueError
        Not an ONNX file, or ``cut`` names a node that there is not, or that can't be cut.
    OSError
        A file cannot be read.
    ImportError
        The package onnx or onnxruntime is not installed.
    Exception
        What ONNX Runtime raises for a model that it does not take.

    Notes
    -----
    Both ways are right to within rounding, and differ in their last bits; with narrow weights, by their errors. A
    session gives equal bits for equal inputs; with "auto", another one of the same model may take the other way. With
    "auto", weights are in memory twice, unless all sizes of the inputs are fixed: then the way that lost is let go.

    Models with ``layout=1``, which ONNX Runtime does not run, run cut.

    Examples
    --------
    >>> import numpy as np, fastrnn.onnx
    >>> from onnx import TensorProto, helper, numpy_helper
    >>> weights = {"W": np.ones((1, 60, 8), "float32"), "R": np.zeros((1, 60, 20), "float32")}
    >>> nodes = [helper.make_node("Tanh", ["X"], ["x"]),
    ...          helper.make_node("GRU", ["x", "W", "R"], ["Y"], "gru", hidden_size=20)]
    >>> tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    >>> x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["T", "B", 8])
    >>> y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    >>> graph = helper.make_graph(nodes, "model", [x], [y], tensors)
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    >>> session = fastrnn.onnx.session(model, cut="always")
    >>> print(session.report)
    gru: replaced
    >>> (y,) = session.run(None, {"X": np.ones((5, 2, 8), "float32")})
    >>> y.shape
    (5, 1, 2, 20)
    """
    return Session(path_or_model, threads, cut, precision, requantize)
