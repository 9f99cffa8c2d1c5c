"""The character-level language model of this example: its alphabet, its files and its measure. NumPy is all it needs.

    y = two LSTM layers over embedding[previous characters]      (T, B, H)
    logits = y @ head_weight.T + head_bias                       (T, B, V)

`train.py` writes the files, `generate.py` and the test read them; the LSTM itself is theirs to choose.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
MODEL_FILE = HERE / "model.npz"
HELDOUT_FILE = HERE / "heldout.txt.gz"
RESULTS_FILE = HERE / "results.json"

SEPARATOR = "\f"  # stands before the first and after the last character of every file
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
VOCABULARY = SEPARATOR + CHARACTERS
_INDEX = {character: index for index, character in enumerate(VOCABULARY)}


class CharModel(NamedTuple):
    """Weights of the model, float32."""

    embedding: np.ndarray  # (V, E)
    lstm: dict[str, np.ndarray]  # PyTorch's names, as fastrnn.LSTMParams takes them
    head_weight: np.ndarray  # (V, H)
    head_bias: np.ndarray  # (V,)


def encode(text: str) -> np.ndarray:
    """Indices into `VOCABULARY`, one a character.

    Raises
    ------
    ValueError
        If a character is not in the vocabulary; the message names them all.
    """
    unknown = sorted(set(text) - _INDEX.keys())
    if unknown:
        raise ValueError(f"expected printable ASCII and newlines, got {', '.join(map(ascii, unknown))}")
    return np.fromiter((_INDEX[character] for character in text), np.int64, len(text))


def save_model(arrays: dict[str, np.ndarray], path: Path = MODEL_FILE) -> None:
    """Write the weights (`embedding`, `head_weight`, `head_bias` and the LSTM's names) as float16."""
    halves: dict[str, Any] = {name: array.astype(np.float16) for name, array in arrays.items()}
    np.savez_compressed(path, **halves)


def load_model(path: Path = MODEL_FILE) -> CharModel:
    """Read the weights that `save_model` wrote, widened to float32."""
    with np.load(path) as file:
        arrays = {name: file[name].astype(np.float32) for name in file.files}
    rest = [arrays.pop(name) for name in ("embedding", "head_weight", "head_bias")]
    return CharModel(rest[0], arrays, *rest[1:])


def save_heldout(texts: Sequence[str], path: Path = HELDOUT_FILE) -> None:
    """Write whole files as one compressed text, `SEPARATOR` between them; the same texts give the same bytes."""
    path.write_bytes(gzip.compress(SEPARATOR.join(texts).encode("ascii"), mtime=0))


def load_heldout(path: Path = HELDOUT_FILE) -> list[str]:
    """Read the files that `save_heldout` wrote."""
    return gzip.decompress(path.read_bytes()).decode("ascii").split(SEPARATOR)


def pad_files(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs and targets of the measure, one column a file.

    Every character of a file is predicted from all before it, the first one from `SEPARATOR` alone.

    Returns
    -------
    inputs, targets : (T, B) int64
        T is the length of the longest file; past a file's end they are 0.
    lengths : (B,) int64
    """
    lengths = np.array([len(text) for text in texts])
    padded = np.zeros((lengths.max() + 1, len(texts)), np.int64)
    for column, text in enumerate(texts):
        padded[: len(text) + 1, column] = encode(SEPARATOR + text)
    return padded[:-1], padded[1:], lengths


def bits_per_character(model: CharModel, texts: Sequence[str], lstm: Callable[..., Any], chunk: int = 512) -> float:
    """Mean of -log2 of the probability that the model gives each character of `texts`, as `pad_files` lays them out.

    Parameters
    ----------
    lstm : callable
        ``lstm(x, state, lengths) -> (y, state)``, as `fastrnn.lstm` computes it: x (T, B) characters, y (T, B, H),
        and a row ends after its length. Each file begins with `state` None or zeros.
    chunk : int
        Steps a call; the state is carried from one call to the next.
    """
    inputs, targets, lengths = pad_files(texts)
    state, bits = None, 0.0
    for start in range(0, len(inputs), chunk):
        steps = np.clip(lengths - start, 0, min(chunk, len(inputs) - start))
        y, state = lstm(inputs[start : start + chunk], state, steps)
        valid = np.arange(len(y))[:, None] < steps
        logits = y[valid].astype(np.float64) @ model.head_weight.T + model.head_bias
        highest = logits.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]
        chosen = np.take_along_axis(logits, targets[start : start + chunk][valid][:, None], axis=1)[:, 0]
        bits += float((log_total - chosen).sum()) / math.log(2.0)
    return bits / int(lengths.sum())
