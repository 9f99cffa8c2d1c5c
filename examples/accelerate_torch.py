"""A PyTorch model that fastrnn makes faster: one line, the same results.

The model is of the kind that recognises speech: convolutions over features of 80 bands that halve the steps twice, a
bidirectional LSTM of three layers, and a head that scores 32 characters at each step. Weights are random, since only
time and differences are looked at.

    pip install '.[torch]'
    python examples/accelerate_torch.py
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

import fastrnn

ROUNDS = 15


class Recogniser(nn.Module):
    """Features (B, T, 80) in, scores of characters (B, T / 4, 32) out."""

    def __init__(self, bands: int = 80, hidden: int = 256, characters: int = 32) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(bands, 128, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(128, 128, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
        )
        self.encoder = nn.LSTM(128, hidden, num_layers=3, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden, characters)

    def forward(self, features: Tensor) -> Tensor:
        steps = self.convolutions(features.transpose(1, 2)).transpose(1, 2)
        encoded, _ = self.encoder(steps)
        return self.head(encoded).log_softmax(-1)


def seconds(model: nn.Module, features: Tensor) -> float:
    start = time.perf_counter()
    model(features)
    return time.perf_counter() - start


def main() -> None:
    torch.manual_seed(0)
    original = Recogniser().eval()
    fast = Recogniser().eval()
    fast.load_state_dict(original.state_dict())
    print(fastrnn.torch.accelerate(fast))  # all that there is to do

    print(f"{torch.get_num_threads()} threads, {ROUNDS} rounds in turns, medians")
    for rows, steps in [(1, 100), (1, 1000), (8, 400)]:
        features = torch.randn(rows, steps, 80)
        with torch.inference_mode():
            difference = (fast(features) - original(features)).abs().max().item()
            times = [(seconds(original, features), seconds(fast, features)) for _ in range(ROUNDS)]
        before, after = map(statistics.median, zip(*times))
        print(
            f"B={rows}, T={steps}: {1000 * before:.1f} ms before, {1000 * after:.1f} ms after, "
            f"{before / after:.2f} times as fast; largest difference {difference:.1e}"
        )


if __name__ == "__main__":
    main()
