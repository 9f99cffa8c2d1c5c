"""fastrnn: RNN, LSTM and GRU layers on CPUs.

>>> import numpy as np, fastrnn
>>> rng = np.random.default_rng(0)
>>> weights = {"weight_ih_l0": rng.normal(size=(80, 8)), "weight_hh_l0": rng.normal(size=(80, 20))}
>>> params = fastrnn.LSTMParams(weights, dtype="float32")
>>> y, (h_n, c_n) = fastrnn.lstm(rng.normal(size=(100, 1, 8)).astype("float32"), params)
>>> y.shape
(100, 1, 20)
"""

try:
    from fastrnn import _core as _core
except ImportError as error:
    if "cannot import name" not in str(error):
        raise  # the extension is there and cannot be loaded
    raise ImportError(
        "fastrnn's extension is not built in the folder that it is imported from. If this is a checkout, run Python in "
        "another folder, where the installed fastrnn is found, or run `pip install -e .` here."
    ) from None

from typing import TYPE_CHECKING, Any

from fastrnn import _check
from fastrnn import config as _config
from fastrnn import functional as _functional
from fastrnn import gradients as _gradients
from fastrnn import params as _params
from fastrnn import pool as _pool
from fastrnn import sequences as _sequences
from fastrnn import stream as _stream
from fastrnn import traces as _traces
from fastrnn.config import *
from fastrnn.functional import *
from fastrnn.gradients import *
from fastrnn.params import *
from fastrnn.pool import *
from fastrnn.sequences import *
from fastrnn.stream import *
from fastrnn.traces import *

if TYPE_CHECKING:
    from fastrnn import aio as aio
    from fastrnn import batching as batching
    from fastrnn import onnx as onnx
    from fastrnn import reference as reference
    from fastrnn import torch as torch
    from fastrnn.files import load
    from fastrnn.keras import from_keras
    from fastrnn.onnx import from_onnx
    from fastrnn.torch import from_torch

__all__ = ["from_keras", "from_onnx", "from_torch", "load"]
__all__ += _config.__all__
__all__ += _functional.__all__
__all__ += _gradients.__all__
__all__ += _params.__all__
__all__ += _pool.__all__
__all__ += _sequences.__all__
__all__ += _stream.__all__
__all__ += _traces.__all__

# Imported when they are first used, since most programs use one of them or none.
_LATER = {"from_keras": "keras", "from_onnx": "onnx", "from_torch": "torch", "load": "files"}
_ROOMS = ("aio", "batching", "onnx", "reference", "torch")  # modules of their own: fastrnn.torch.accelerate and so on


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _ROOMS:
        return import_module(f"fastrnn.{name}")
    if name in _LATER:
        value = globals()[name] = getattr(import_module(f"fastrnn.{_LATER[name]}"), name)
        return value
    raise AttributeError(f"module 'fastrnn' has no attribute {name!r}{_cure(name)}")


def _cure(name: str) -> str:
    """What to write instead of a name that is not there."""
    kind = name.removesuffix("Cell")
    if f"{kind}Params" in __all__:
        return f"; fastrnn.{kind}Params(weights) has the weights, and fastrnn.{kind.lower()}(x, params) runs the layer"
    return "" if name.startswith("_") else _check.meant(name, [*__all__, *_ROOMS])


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS})
