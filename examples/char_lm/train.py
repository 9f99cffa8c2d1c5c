"""Train the character-level language model of this example on the source of Python's standard library.

A model in PyTorch, whose LSTM layers are trained by fastrnn, or by PyTorch with --no-accelerate. Needs PyTorch and
tqdm. Writes model.npz (float16 weights), heldout.txt.gz (whole held-out files, about 100 kB) and results.json (what was
trained on what, and the bits per character that came of it), and prints the time and the bits per character.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from model import HERE, SEPARATOR, VOCABULARY, encode, pad_files, save_heldout, save_model
from torch import nn
from torch.nn import functional
from tqdm import tqdm

import fastrnn
import fastrnn.torch

STANDARD_LIBRARY = Path(sysconfig.get_paths()["stdlib"])

# Tests, generated tables, and what differs from one installation to the next.
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data"}
SKIPPED_FILES = {"html/entities.py", "stringprep.py", "sitecustomize.py", "usercustomize.py"}
SKIPPED_PREFIXES = ("config-", "_sysconfigdata")
EXCERPT_CHARACTERS = 100_000
EXCERPT_LONGEST_FILE = 16_000


class CharLM(nn.Module):
    """Embedding, two LSTM layers, linear head; time first."""

    def __init__(self, hidden_size: int, embedding_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), embedding_size)
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers=2)
        self.head = nn.Linear(hidden_size, len(VOCABULARY))
        for layer in range(2):  # forget gate open at first: its two biases add up to 1
            getattr(self.lstm, f"bias_ih_l{layer}").data[hidden_size : 2 * hidden_size] = 1.0
            getattr(self.lstm, f"bias_hh_l{layer}").data[hidden_size : 2 * hidden_size] = 0.0

    def forward(self, ids: torch.Tensor, state: tuple | None = None) -> tuple[torch.Tensor, tuple]:
        y, state = self.lstm(self.embedding(ids), state)
        return self.head(y), state

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights under the names that `model.load_model` expects."""
        parameters = {
            "embedding": self.embedding.weight,
            **dict(self.lstm.named_parameters()),
            "head_weight": self.head.weight,
            "head_bias": self.head.bias,
        }
        return {name: parameter.detach().numpy() for name, parameter in parameters.items()}

    def round_to_float16(self) -> None:
        """Round every weight as `model.save_model` does."""
        for parameter in self.parameters():
            parameter.data = parameter.data.half().float()


def digest(path: str) -> int:
    """Number in [0, 2**32) that depends on the text of `path` alone, so that no order and no platform matters."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big")


def is_skipped(path: Path) -> bool:
    return (
        path.as_posix() in SKIPPED_FILES
        or not SKIPPED_FOLDERS.isdisjoint(path.parts)
        or path.parts[0].startswith(SKIPPED_PREFIXES)
    )


def read_sources(root: Path) -> dict[str, str]:
    """Text of the library's files by relative path; a file with a character outside the vocabulary is left out."""
    sources = {}
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root)
        if is_skipped(path):
            continue
        text = file.read_text(encoding="utf-8").expandtabs(4)
        if text and SEPARATOR not in text and set(text) <= set(VOCABULARY):
            sources[path.as_posix()] = text
    return sources


def split_files(sources: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """One file in 20 is held out, by the hash of its path."""
    heldout = {path: text for path, text in sources.items() if digest(path) % 20 == 0}
    return {path: text for path, text in sources.items() if path not in heldout}, heldout


def choose_excerpt(heldout: dict[str, str]) -> dict[str, str]:
    """Whole held-out files in the order of their hashes, none very long, up to `EXCERPT_CHARACTERS` in all."""
    excerpt: dict[str, str] = {}
    room = EXCERPT_CHARACTERS
    for path in sorted(heldout, key=digest):
        size = len(heldout[path])
        if size <= min(room, EXCERPT_LONGEST_FILE):
            excerpt[path] = heldout[path]
            room -= size
    return excerpt


def batches(files: list[np.ndarray], rows: int, steps: int, seed: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Endless (chunk, (steps + 1, rows) ids): each epoch shuffles the files and cuts the stream into `rows` columns.

    Chunks of an epoch follow each other in the text, so that the state can be carried; chunk 0 begins a new epoch.
    """
    rng = np.random.default_rng(seed)
    while True:
        stream = np.concatenate([files[index] for index in rng.permutation(len(files))])
        chunks = (len(stream) - 1) // (rows * steps)
        columns = np.lib.stride_tricks.sliding_window_view(stream, chunks * steps + 1)[:: chunks * steps][:rows].T
        for chunk in range(chunks):
            yield chunk, torch.from_numpy(columns[chunk * steps : (chunk + 1) * steps + 1].copy())


def learning_rate(step: int, steps: int, peak: float, warm_up: int = 200) -> float:
    """Linear warm-up, then half a cosine to a hundredth of the peak."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))


def forget_some(state: tuple[torch.Tensor, ...], probability: float = 0.02) -> tuple[torch.Tensor, ...]:
    """Detach the state, and zero it in a few rows, so that the model also learns to begin in the midst of a file."""
    keep = (torch.rand(state[0].shape[1], 1) >= probability).float()
    return tuple(part.detach() * keep for part in state)


@torch.no_grad()
def evaluate(net: CharLM, texts: list[str], chunk: int = 512) -> float:
    """Bits per character, the measure of `model.bits_per_character`, in PyTorch throughout."""
    inputs, targets, lengths = (torch.from_numpy(array) for array in pad_files(texts))
    targets = targets.masked_fill(torch.arange(len(targets))[:, None] >= lengths, -1)
    nats, state = 0.0, None
    for start in range(0, len(inputs), chunk):
        logits, state = net(inputs[start : start + chunk], state)
        part = targets[start : start + chunk].flatten()
        nats += functional.cross_entropy(logits.flatten(0, 1), part, ignore_index=-1, reduction="sum").item()
    return nats / math.log(2.0) / int(lengths.sum())


def measure(net: CharLM, heldout: dict[str, str], excerpt: dict[str, str]) -> dict[str, Any]:
    """Bits per character of all held-out files, of the excerpt, and of each file of the excerpt."""
    return {
        "heldout_bits_per_character": evaluate(net, list(heldout.values())),
        "excerpt_bits_per_character": evaluate(net, list(excerpt.values())),
        "excerpt": [
            {"path": path, "characters": len(text), "bits_per_character": evaluate(net, [text])}
            for path, text in excerpt.items()
        ],
    }


def train(net: CharLM, files: list[np.ndarray], excerpt: list[str], args: argparse.Namespace) -> None:
    """Truncated back-propagation through time with the state carried over; the progress bar shows bits a character."""
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    state, smooth, heldout = None, 0.0, math.nan
    bar = tqdm(range(args.steps), unit="step", mininterval=args.bar_seconds)
    for step, (chunk, ids) in zip(bar, batches(files, args.rows, args.chunk, args.seed), strict=False):
        optimizer.param_groups[0]["lr"] = learning_rate(step, args.steps, args.lr)
        logits, state = net(ids[:-1], None if chunk == 0 else state)
        loss = functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        state = forget_some(state)
        decay = min(0.99, step / (step + 1))
        smooth = decay * smooth + (1.0 - decay) * loss.item() / math.log(2.0)
        if (step + 1) % args.save_every == 0:
            heldout = evaluate(net, excerpt)
            if args.checkpoint:
                save_model(net.arrays(), args.checkpoint)
        bar.set_postfix(train=f"{smooth:.3f}", heldout=f"{heldout:.3f}", refresh=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=9_000, help="optimizer steps")
    parser.add_argument("--rows", type=int, default=32, help="texts side by side")
    parser.add_argument("--chunk", type=int, default=128, help="characters a row and step")
    parser.add_argument("--hidden", type=int, default=320, help="units a layer")
    parser.add_argument("--embedding", type=int, default=64, help="size of a character's vector")
    parser.add_argument("--lr", type=float, default=4e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1, help="of the first weights and of the order of the files")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch and of fastrnn")
    parser.add_argument(
        "--accelerate", action=argparse.BooleanOptionalAction, default=True, help="train the LSTM layers with fastrnn"
    )
    parser.add_argument("--sources", type=Path, default=STANDARD_LIBRARY, help="folder of Python files to learn from")
    parser.add_argument("--save-every", type=int, default=500, help="steps between two looks at the held-out excerpt")
    parser.add_argument("--checkpoint", type=Path, help="also write the weights there, each time")
    parser.add_argument("--bar-seconds", type=float, default=0.5, help="between two updates of the progress bar")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the three files")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    training, heldout = split_files(read_sources(args.sources))
    excerpt = choose_excerpt(heldout)
    net = CharLM(args.hidden, args.embedding)
    if args.accelerate:
        print(fastrnn.torch.accelerate(net))
    results = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "fastrnn": fastrnn.__version__ if args.accelerate else None,
        "training_files": len(training),
        "training_characters": sum(map(len, training.values())),
        "heldout_files": len(heldout),
        "heldout_characters": sum(map(len, heldout.values())),
        "excerpt_files": len(excerpt),
        "excerpt_characters": sum(map(len, excerpt.values())),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        **{name: getattr(args, name) for name in ("hidden", "embedding", "steps", "rows", "chunk", "lr", "seed")},
    }
    print(json.dumps(results, indent=2))
    begin = time.perf_counter()
    train(net, [encode(SEPARATOR + text) for text in training.values()], list(excerpt.values()), args)
    seconds = time.perf_counter() - begin
    results["training_minutes"] = round(seconds / 60.0, 1)
    fastrnn.torch.restore(net)  # PyTorch measures, whoever has trained
    net.round_to_float16()
    results |= measure(net, heldout, excerpt)
    args.output.mkdir(parents=True, exist_ok=True)
    save_model(net.arrays(), args.output / "model.npz")
    save_heldout(list(excerpt.values()), args.output / "heldout.txt.gz")
    (args.output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    layers = "fastrnn" if args.accelerate else "PyTorch"
    print(f"{layers}: {seconds:.1f} s, {1000.0 * seconds / args.steps:.1f} ms a step with its checks")
    print(f"held out: {results['heldout_bits_per_character']:.4f} bits per character")


if __name__ == "__main__":
    main()
