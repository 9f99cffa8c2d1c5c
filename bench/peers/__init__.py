"""The programs that are timed, or peers, by the name that the command line and results have for each."""

from __future__ import annotations

from bench.peers.numpy import NumPyLoop
from bench.peers.onnx import OnnxRuntime, OpenVINO
from bench.peers.ours import FastRNN, FastRNNStream
from bench.peers.peer import Call, Peer, Unable
from bench.peers.torch import Torch
from bench.peers.whole import WholeCut, WholeOnnxRuntime, WholeSession

__all__ = ["OURS", "PEERS", "WHOLE_PEERS", "Call", "Peer", "Unable"]

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
OURS = ("fastrnn", "stream")  # all others are peers
