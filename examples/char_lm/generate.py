"""Write Python-like text, one character at a time, with a two-layer LSTM run by fastrnn."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
from model import CHARACTERS, SEPARATOR, CharModel, encode, load_model

import fastrnn

EPILOG = """\
The prompt is taken as the beginning of a file. The text goes to standard output: the prompt, the characters asked
for, a newline; the speed goes to standard error. The same seed gives the same text whatever the thread count and
FASTRNN_TARGET (scalar, avx2, avx512, neon).

examples:
  generate.py --prompt 'class Stack:' --temperature 0.4
  generate.py --prompt 'def parse_url(url):' --seed 7 --length 2000
"""


LARGEST_RATE = 1e30  # of a temperature that is nearly 0: differences of logits times this are numbers of float32


def uniforms(seed: int) -> Iterator[float]:
    """Random numbers in [0, 1), a thousand drawn at once."""
    rng = np.random.Generator(np.random.PCG64(seed))
    while True:
        yield from rng.random(1000).tolist()


def sample(logits: np.ndarray, temperature: float, uniform: float) -> int:
    """Draw an index with probability softmax(logits / temperature); the most likely one if the temperature is 0.

    It writes over the logits.
    """
    likeliest = int(logits.argmax())
    if temperature == 0.0:
        return likeliest
    logits -= logits[likeliest]
    logits *= min(1 / temperature, LARGEST_RATE)
    cumulative = np.add.accumulate(np.exp(logits, out=logits))
    # In float64, where a uniform number below 1 times the sum of all is below that sum.
    return int(cumulative.searchsorted(uniform * float(cumulative[-1]), side="right"))


def generate(
    model: CharModel, params: fastrnn.LSTMParams, prompt: str, temperature: float, seed: int, threads: int | None
) -> Iterator[str]:
    """Characters that follow `prompt`, without end."""
    # The separator is left out: the text does not stop. A product of each row with y, since that of the whole matrix
    # is the BLAS's, whose bits may depend on its thread count.
    rows, bias = model.head_weight[1:, np.newaxis].copy(), model.head_bias[1:].copy()
    logits = np.empty_like(bias)
    stream = fastrnn.Stream(params)
    # As in training: a separator comes after the newline that ends the file before.
    y = stream.run(encode("\n" + SEPARATOR + prompt), threads=threads)[-1]
    for uniform in uniforms(seed):
        np.matmul(rows, y[:, np.newaxis], out=logits[:, np.newaxis, np.newaxis])
        logits += bias
        index = sample(logits, temperature, uniform)
        yield CHARACTERS[index]
        y = stream.step(index + 1)


def prompt_text(text: str) -> str:
    try:
        encode(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def whole_number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, got {text!r}")
    return number


def count(text: str) -> int:
    return whole_number(text, least=1)


def seed_number(text: str) -> int:
    return whole_number(text, least=0)


def temperature_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 100.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 100, got {text!r}")
    return number


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--prompt", type=prompt_text, default="class ", help="text to go on from (default: %(default)r)"
    )
    parser.add_argument("--length", type=count, default=500, help="characters to write (default: %(default)s)")
    parser.add_argument(
        "--temperature",
        type=temperature_number,
        default=0.6,
        help="0: always the most likely character; 1: the model's own probabilities (default: %(default)s)",
    )
    parser.add_argument("--seed", type=seed_number, default=0, help="of the random numbers (default: %(default)s)")
    parser.add_argument("--threads", type=count, help="of fastrnn, while it reads the prompt (default: its own)")
    return parser


def write(prompt: str, characters: Iterator[str]) -> tuple[int, int]:
    """Write to standard output as the characters come; return how many came and the exit status."""
    written = status = 0
    try:
        for character in characters:
            sys.stdout.write(character if written else prompt + character)
            sys.stdout.flush()
            written += 1
        sys.stdout.write("\n")
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130  # what a shell reports for Ctrl-C
    except BrokenPipeError:  # a reader such as head has seen enough; nothing is left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return written, status


def main(argv: list[str] | None = None) -> int:
    parser = argument_parser()
    args = parser.parse_args(argv)
    model = load_model()
    try:
        params = fastrnn.LSTMParams(model.lstm, embedding=model.embedding)
        characters = generate(model, params, args.prompt, args.temperature, args.seed, args.threads)
        begin = time.perf_counter()
        written, status = write(args.prompt, islice(characters, args.length))
        seconds = time.perf_counter() - begin
    except ValueError as error:  # what fastrnn says of FASTRNN_TARGET or of the threads
        parser.error(str(error))
    speed = f"{written} characters in {seconds:.2f} s, {written / seconds:.0f} characters a second ({params.target})"
    print(f"\n{speed}", file=sys.stderr)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while the model was read
        sys.exit(130)
    except OSError as error:  # no model, no room for the text
        sys.exit(f"generate.py: {error}")
