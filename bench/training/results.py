"""The file of results of training: that of bench/results.py with other peers and columns."""

from __future__ import annotations

from bench.peers import TRAINING_PEERS
from bench.results import Run
from bench.training.run import TrainingResult


class TrainingRun(Run):
    """One run of ``python -m bench --training``."""

    peers = TRAINING_PEERS
    result_type = TrainingResult
    kind = "training"
    fractions = ("packing", "of the limit")
