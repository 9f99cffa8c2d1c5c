"""Learn a text letter by letter, and write more of the kind: a recurrent layer trained with NumPy and fastrnn alone.

    pip install '.[progress]'
    python examples/min_char_rnn.py                                # learns "hello"
    python examples/min_char_rnn.py novel.txt --cell gru --hidden 256 --steps 5000

Backpropagation goes back over one chunk; the state is carried to the next. The bar shows the loss in bits a letter.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

import fastrnn

CELLS = {"rnn": (fastrnn.RNNParams, 1), "gru": (fastrnn.GRUParams, 3), "lstm": (fastrnn.LSTMParams, 4)}


class Model:
    """One recurrent layer over one-hot letters, a linear head, and Adam's two moments of every weight."""

    def __init__(self, cell: str, letters: int, hidden: int, rng: np.random.Generator) -> None:
        params, G = CELLS[cell]
        layer = {"weight_ih": (G * hidden, letters), "weight_hh": (G * hidden, hidden), "bias_ih": G * hidden}
        shapes = {**layer, "head": (letters, hidden), "head_bias": letters}
        self.weights = {k: (rng.uniform(-1, 1, n) / hidden**0.5).astype("float32") for k, n in shapes.items()}
        self.moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in self.weights.items()}
        self.params = params({name: self.weights[name] for name in layer}, embedding="one-hot")
        self.one_hot = np.eye(letters, dtype="float32")

    def gradients(self, ids: np.ndarray, targets: np.ndarray, state: object) -> tuple[float, dict, object]:
        """Loss in bits a letter, gradients by name, and the state after the chunk."""
        (y, state), pullback = fastrnn.vjp(ids, self.params, state)
        logits = y @ self.weights["head"].T + self.weights["head_bias"]
        chances = np.exp(logits - logits.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
        loss = -np.log2(np.take_along_axis(chances, targets[..., None], -1)).mean()
        d_logits = (chances - self.one_hot[targets]) / targets.size  # of the mean of -ln
        layer = pullback(d_logits @ self.weights["head"], wrt=["weights"]).weights
        head = np.tensordot(d_logits, y, axes=([0, 1], [0, 1]))
        return float(loss), {**layer, "head": head, "head_bias": d_logits.sum((0, 1))}, state

    def update(self, gradients: dict, step: int, rate: float, largest_norm: float = 1.0) -> None:
        """One step of Adam (Kingma and Ba, 2015), with the norm of all gradients clipped; steps count from 1."""
        norm = np.sqrt(sum(np.square(gradient).sum() for gradient in gradients.values()))
        rate *= np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for name, (mean, square) in self.moments.items():
            gradient = gradients[name] * min(1.0, largest_norm / norm)
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            self.weights[name] -= rate * mean / (np.sqrt(square) + 1e-8)
        self.params = self.params.with_weights({name: self.weights[name] for name in self.params.weights})

    def write(self, first: int, count: int, temperature: float, rng: np.random.Generator) -> list[int]:
        """A letter, and letters drawn after it one by one."""
        stream, ids = fastrnn.Stream(self.params), [first]
        for _ in range(count):
            logits = self.weights["head"] @ stream.step(ids[-1]) + self.weights["head_bias"]
            ids.append(int((logits + temperature * rng.gumbel(size=len(logits))).argmax()))  # a draw from their softmax
        return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?", help='a text file in UTF-8 (without: the word "hello")')
    parser.add_argument("--cell", choices=CELLS, default="lstm", help="of the layer (default: lstm)")
    parser.add_argument("--hidden", type=int, default=64, help="units of the layer (default: 64)")
    parser.add_argument("--rows", type=int, default=16, help="parts of the text read side by side (default: 16)")
    parser.add_argument("--chunk", type=int, default=64, help="letters that a gradient goes back (default: 64)")
    parser.add_argument("--steps", type=int, default=300, help="updates of the weights (default: 300)")
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate of Adam (default: 0.01)")
    parser.add_argument("--temperature", type=float, default=0.5, help="of samples; 0: the likeliest (default: 0.5)")
    args = parser.parse_args()
    if len(text := args.text.read_text(encoding="utf-8") if args.text else "hello") < 2:
        parser.error(f"text: expected two letters at least, got {text!r}")
    for name in (name for name in ("hidden", "rows", "chunk", "steps") if vars(args)[name] < 1):
        parser.error(f"--{name}: expected 1 at least, got {vars(args)[name]}")
    letters, ids = np.unique([*text], return_inverse=True)
    rng = np.random.default_rng(0)
    model = Model(args.cell, len(letters), args.hidden, rng)
    rows = max(1, min(args.rows, (len(text) - 1) // args.chunk))  # a short text is one row
    steps = (len(text) - 1) // rows
    inputs, targets = (part[: rows * steps].reshape(rows, steps).T for part in (ids[:-1], ids[1:]))
    starts, state = range(0, steps, args.chunk), None
    for step in (bar := tqdm(range(args.steps))):
        chunk = slice(start := starts[step % len(starts)], start + args.chunk)
        loss, gradients, state = model.gradients(inputs[chunk], targets[chunk], state if start else None)
        model.update(gradients, step + 1, args.rate)
        bar.set_postfix(bits=f"{loss:.3f}", refresh=False)
        if step % max(1, args.steps // 10) == 0 or step == args.steps - 1:
            bar.write("".join(letters[model.write(ids[0], min(len(text) - 1, 200), args.temperature, rng)]))


if __name__ == "__main__":
    main()
