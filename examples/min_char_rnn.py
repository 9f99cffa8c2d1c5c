"""Learn a text letter by letter, and write more of the kind: a recurrent layer trained with NumPy and fastrnn alone.

    pip install '.[progress]'
    python examples/min_char_rnn.py                                # learns "hello"
    python examples/min_char_rnn.py novel.txt --cell gru --hidden 256 --steps 5000

The layer, its head, the loss and Adam are in gallery/shared.py. Backpropagation goes back over one chunk; the state is
carried to the next. The bar shows the loss in bits a letter.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from gallery.shared import LAYERS, Model
from tqdm import tqdm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?", help='a text file in UTF-8 (without: the word "hello")')
    parser.add_argument("--cell", choices=LAYERS, default="lstm", help="of the layer (default: lstm)")
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
    model = Model(args.cell, len(letters), args.hidden, len(letters), rng, embedding="one-hot", rate=args.rate)
    rows = max(1, min(args.rows, (len(text) - 1) // args.chunk))  # a short text is one row
    steps = (len(text) - 1) // rows
    inputs, targets = (part[: rows * steps].reshape(rows, steps).T for part in (ids[:-1], ids[1:]))
    starts, state = range(0, steps, args.chunk), None
    for step in (bar := tqdm(range(args.steps))):
        chunk = slice(start := starts[step % len(starts)], start + args.chunk)
        loss, state = model.learn(inputs[chunk], targets[chunk], state=state if start else None)
        bar.set_postfix(bits=f"{loss / np.log(2):.3f}", refresh=False)
        if step % max(1, args.steps // 10) == 0 or step == args.steps - 1:
            bar.write("".join(letters[model.write(ids[0], min(len(text) - 1, 200), args.temperature, rng)]))


if __name__ == "__main__":
    main()
