"""PyTorch's dynamically quantized layers, `torch.ao.nn.quantized.dynamic`, and the weights that are packed in them.

`quantize_dynamic` makes them: their weights are bytes (qint8), with one scale a matrix or one a row, or halves. Both go
into params as they are. The options of such a layer have the names that they have in `torch.nn`; where its weights are
is known by other attributes, which scripted and traced layers have too.

Importing this module does not import PyTorch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastrnn._arrays import Array
from fastrnn._precision import OF_BYTES, Quantized, carried
from fastrnn._types import Precision

DYNAMIC = "torch.ao.nn.quantized.dynamic"
_CLASSES = ("LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
_OF_LAYERS, _OF_CELLS = "_all_weight_values", "_packed_weight_"
_PACKED = re.compile(rf"(?:(.*)\.)?(?:{_OF_LAYERS}\.\d+\.param|{_OF_CELLS}(?:ih|hh))")
_KINDS = ("quantized_dynamic", "quantized_fp16")  # what PyTorch calls packed weights of a layer


def dynamic_class(kind: type) -> Any:
    """The class of dynamically quantized layers that a class is, or is derived from, or None."""
    module = sys.modules.get(DYNAMIC)  # where it was not imported, nothing was made of it
    classes = [] if module is None else [getattr(module, name) for name in _CLASSES]
    return next((plain for plain in classes if issubclass(kind, plain)), None)


def is_packed(layer: Any) -> bool:
    """Whether a layer, scripted or not, holds packed weights, and not those of `torch.nn`."""
    return hasattr(layer, _OF_LAYERS) or hasattr(layer, f"{_OF_CELLS}ih")


def packed_prefixes(names: Iterable[object]) -> list[str]:
    """The prefixes of packed weights in a state_dict, without their dots, each once."""
    matches = [_PACKED.fullmatch(name) for name in names if isinstance(name, str)]
    return list(dict.fromkeys(match[1] or "" for match in matches if match))


def packed_objects(layer: Any) -> list[Any]:
    """The objects that hold a layer's weights; PyTorch changes none, but may set others in their place."""
    if hasattr(layer, _OF_LAYERS):
        return [values.param for values in getattr(layer, _OF_LAYERS).children()]
    return [getattr(layer, f"{_OF_CELLS}{kind}") for kind in ("ih", "hh")]


class PackedTensors(dict[str, Any]):
    """Matrices, quantized or in float32, and biases, by the names that a layer of `torch.nn` gives them."""

    @property
    def precision(self) -> Precision:
        """That of the layer's matrices."""
        return "int8" if any(map(_is_bytes, self.values())) else "float16"

    def weights(self, precision: Precision | None, requantize: bool) -> dict[str, Array]:
        """Weights for params of a precision: bytes as they are for one of bytes, floats for others."""
        weights = dict[str, Array]()
        for name, tensor in self.items():
            if not _is_bytes(tensor):
                weights[name] = tensor.detach().numpy()
            elif precision in OF_BYTES:
                weights |= carried(name, _quantized(tensor), requantize)
            else:
                weights[name] = _quantized(tensor).floats()
        return weights


def packed_tensors(layer: Any) -> PackedTensors:
    """What is packed in a layer.

    Biases are those that are packed beside the matrices, with which PyTorch computes. A cell has other ones as
    attributes, which are random numbers.
    """
    objects, tensors = packed_objects(layer), PackedTensors()
    if not hasattr(layer, _OF_LAYERS):
        tensors.update(_unpacked(objects, ""))
        return tensors
    directions = 2 if layer.bidirectional else 1
    for number, values in enumerate(objects):
        kind, *_, pair = values.__getstate__()[0]
        if kind not in _KINDS:
            raise ValueError(f"{_OF_LAYERS}.{number}: expected {' or '.join(_KINDS)} weights, got {kind}")
        tensors.update(_unpacked(pair, f"_l{number // directions}" + "_reverse" * (number % directions)))
    return tensors


def _unpacked(pair: list[Any], suffix: str) -> dict[str, Any]:
    tensors = dict[str, Any]()
    for kind, packed in zip(("ih", "hh"), pair, strict=True):
        weight, bias = packed.__getstate__()[0]
        tensors |= {f"weight_{kind}{suffix}": weight} | ({} if bias is None else {f"bias_{kind}{suffix}": bias})
    return tensors


def _is_bytes(tensor: Any) -> bool:
    return bool(tensor.is_quantized)


def _quantized(tensor: Any) -> Quantized:
    if "per_tensor" in str(tensor.qscheme()):
        zeros, scales = np.array(tensor.q_zero_point()), np.array(tensor.q_scale())
    else:
        across = (-1, 1) if tensor.q_per_channel_axis() == 0 else (1, -1)
        zeros, scales = tensor.q_per_channel_zero_points().numpy(), tensor.q_per_channel_scales().numpy()
        zeros, scales = zeros.reshape(across), scales.reshape(across)
    return Quantized(tensor.int_repr().numpy(), zeros, scales)
