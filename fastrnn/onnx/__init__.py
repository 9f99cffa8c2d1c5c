"""ONNX: recurrent nodes of a model as params, and operators for ONNX's own evaluator that run on fastrnn.

Importing this module does not import the package onnx: calling its functions does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from numpy.typing import DTypeLike
    from onnx import ModelProto
    from onnx.reference.op_run import OpRun

    from fastrnn.params import GRUParams, LSTMParams, RNNParams

__all__ = ["from_onnx", "ops"]


def from_onnx(
    path_or_model: str | os.PathLike[str] | ModelProto,
    node: str | None = None,
    *,
    dtype: DTypeLike | None = None,
    target: str | None = None,
) -> RNNParams | LSTMParams | GRUParams:
    """Take the weights and attributes of an RNN, LSTM or GRU node.

    Parameters
    ----------
    path_or_model : str, PathLike or onnx.ModelProto
        A file, beside which external data are looked for, or a model.
    node : str, optional
        The node's name, or the name of one of its outputs; or, where nodes share these, what ``fastrnn inspect`` lists,
        such as ``"#3"``. Not needed where the model has one recurrent node. Nodes in bodies of If, Loop and Scan and in
        the model's functions count.
    dtype : "float32", "float64" or None
        Converts the weights, which float16 and bfloat16 ones need; None: as the weights are.
    target : str or None
        As in `RNNParams`.

    Returns
    -------
    RNNParams, LSTMParams or GRUParams
        One layer in the node's direction or directions; `batch_first` with ``layout=1``. Weights that other nodes compute
        from constants alone are computed. Initial states and lengths that are not constants are arguments of the call.
        Y is (T, D, B, H) in ONNX; ours is (T, B, D*H).

    Raises
    ------
    TypeError
        Neither a path nor a model; a `node` or a `target` that is not a str; another `dtype`.
    ValueError
        Not an ONNX file, no such node, several nodes and no `node`, or a node that params cannot do exactly: the
        message names the attribute or input, and says why. float16 weights and no `dtype`.
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

    return params_of(path_or_model, node, dtype=dtype, target=target)


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
