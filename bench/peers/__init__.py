"""The programs that are timed, or peers, by the name that the command line and results have for each."""

from __future__ import annotations

from bench.peers.numpy import NumPyLoop
from bench.peers.onnx import OnnxRuntime, OpenVINO
from bench.peers.ours import FastRNN, FastRNNStream
from bench.peers.peer import Call, Library, Peer, Unable
from bench.peers.precision import (
    FastRNNFloat16,
    FastRNNFloat32,
    FastRNNInt8,
    FastRNNInt8Fast,
    OnnxRuntimeInt8,
    OpenVINOBFloat16,
    TorchInt8,
)
from bench.peers.torch import Torch
from bench.peers.trainer import Trainer
from bench.peers.training_keras import KerasOnJax
from bench.peers.training_ours import FastRNNHeld, FastRNNPacking, FastRNNStep
from bench.peers.training_torch import TorchStep, TorchStepKeepingPages
from bench.peers.whole import WholeCut, WholeOnnxRuntime, WholeSession

__all__ = [
    "COMPARED",
    "OURS",
    "PEERS",
    "PRECISION_PEERS",
    "TRAINING_PEERS",
    "WHOLE_PEERS",
    "Call",
    "Library",
    "Peer",
    "Trainer",
    "Unable",
]

PEERS: dict[str, type[Peer]] = {
    "fastrnn": FastRNN,
    "stream": FastRNNStream,
    "torch": Torch,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVINO,
    "numpy": NumPyLoop,
}
WHOLE_PEERS: dict[str, type[Peer]] = {  # of whole models, which bench/whole_models.py times
    "whole": WholeOnnxRuntime,
    "session": WholeSession,
    "cut": WholeCut,
}
TRAINING_PEERS: dict[str, type[Trainer]] = {  # of steps of training, which bench/training times
    "fastrnn": FastRNNStep,
    "held": FastRNNHeld,
    "packing": FastRNNPacking,
    "torch": TorchStep,
    "torch_pages": TorchStepKeepingPages,
    "jax": KerasOnJax,
}
PRECISION_PEERS: dict[str, type[Peer]] = {  # of narrow weights, which bench/precision times
    "fastrnn": FastRNNFloat32,
    "float16": FastRNNFloat16,
    "int8": FastRNNInt8,
    "int8_fast": FastRNNInt8Fast,
    "torch": Torch,
    "torch_int8": TorchInt8,
    "onnxruntime": OnnxRuntime,
    "onnxruntime_int8": OnnxRuntimeInt8,
    "openvino": OpenVINO,
    "openvino_bfloat16": OpenVINOBFloat16,
}
COMPARED = ("fastrnn", "stream", "held", "float16", "int8", "int8_fast")  # each has a ratio to the best peer
OURS = (*COMPARED, "packing")  # all others are peers
