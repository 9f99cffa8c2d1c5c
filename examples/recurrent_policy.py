"""Train a recurrent policy on episodes that end inside a batch, with NumPy and fastrnn alone; then time the loop.

    python examples/recurrent_policy.py

A cue is shown at the first step of an episode, and the arm that it names pays at the last, some steps later. Rows of
the batch play one episode after another: `resets` are true where one begins, so a rollout is one call there, one back.
Then the same is done by the loop that people write: one step at a time, states times 0 where an episode begins.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import fastrnn

ARMS, SHORTEST, LONGEST = 4, 3, 12  # steps of an episode


class Episodes:
    """Rows that play without end: what they see, where episodes begin, and the arm that pays at a step, or -1."""

    def __init__(self, rows: int, rng: np.random.Generator) -> None:
        self.rng, self.left, self.arm = rng, np.zeros(rows, int), np.zeros(rows, int)

    def play(self, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seen = np.zeros((steps, len(self.left), ARMS + 1), "float32")  # the cue, and whether an arm is to be pulled
        begins = np.zeros(seen.shape[:2], bool)
        pays = np.full(seen.shape[:2], -1)
        for t in range(steps):
            begins[t] = self.left == 0
            count = np.count_nonzero(begins[t])
            self.left[begins[t]] = self.rng.integers(SHORTEST, LONGEST + 1, count)
            self.arm[begins[t]] = self.rng.integers(ARMS, size=count)
            seen[t, begins[t], self.arm[begins[t]]] = 1
            self.left -= 1
            seen[t, self.left == 0, ARMS] = 1
            pays[t, self.left == 0] = self.arm[self.left == 0]
        return seen, begins, pays


class Policy:
    """A GRU, a linear head, and Adam's two moments of every weight."""

    def __init__(self, hidden: int, rng: np.random.Generator) -> None:
        layer = {"weight_ih": (3 * hidden, ARMS + 1), "weight_hh": (3 * hidden, hidden), "bias_ih": 3 * hidden}
        shapes = {**layer, "head": (ARMS, hidden)}
        self.weights = {k: (rng.uniform(-1, 1, n) / hidden**0.5).astype("float32") for k, n in shapes.items()}
        self.moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in self.weights.items()}
        self.params, self.step, self.paid = fastrnn.GRUParams({k: self.weights[k] for k in layer}), 0, 1 / ARMS

    def update(self, gradients: dict[str, np.ndarray], rate: float = 0.01) -> None:
        """One step of Adam (Kingma and Ba, 2015)."""
        self.step += 1
        rate *= np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        for name, (mean, square) in self.moments.items():
            mean += 0.1 * (gradients[name] - mean)
            square += 0.001 * (gradients[name] ** 2 - square)
            self.weights[name] -= rate * mean / (np.sqrt(square) + 1e-8)
        self.params = self.params.with_weights({name: self.weights[name] for name in self.params.weights})

    def learn(self, played: tuple, state: object, rng: np.random.Generator) -> tuple[float, object]:
        """Pull arms, and climb the gradient of the reward (Williams, 1992). Answers the share that paid, and h."""
        seen, begins, pays = played
        (y, state), pullback = fastrnn.vjp(seen, self.params, state, resets=begins)
        at = pays >= 0
        logits = y[at] @ self.weights["head"].T
        chances = np.exp(logits - logits.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
        pulled = (logits + rng.gumbel(size=logits.shape)).argmax(-1)  # a draw from the chances
        paid = pulled == pays[at]
        d_logits = (chances - np.eye(ARMS)[pulled]) * (paid - self.paid)[:, None] / len(paid)
        self.paid += 0.1 * (paid.mean() - self.paid)  # what is expected
        dy = np.zeros_like(y)
        dy[at] = d_logits @ self.weights["head"]
        layer = pullback(dy, wrt=["weights"]).weights
        self.update({**layer, "head": d_logits.T @ y[at]})
        return float(paid.mean()), state


def rollout(params: fastrnn.GRUParams, seen: np.ndarray, begins: np.ndarray, state: np.ndarray) -> tuple:
    """One call."""
    return fastrnn.gru(seen, params, state, resets=begins)


def loop(params: fastrnn.GRUParams, seen: np.ndarray, begins: np.ndarray, state: np.ndarray) -> tuple:
    """The same without resets."""
    outputs = []
    for x, begin in zip(seen, begins, strict=True):
        state = state * (1 - begin[:, None]).astype("float32")
        y, state = fastrnn.gru(x[None], params, state)
        outputs.append(y)
    return np.concatenate(outputs), state


def gradients(
    params: fastrnn.GRUParams, seen: np.ndarray, begins: np.ndarray, state: np.ndarray, dy: np.ndarray
) -> dict:
    """There and back in two calls."""
    _, pullback = fastrnn.vjp(seen, params, state, resets=begins)
    return pullback(dy, wrt=["weights"]).weights


def loop_gradients(
    params: fastrnn.GRUParams, seen: np.ndarray, begins: np.ndarray, state: np.ndarray, dy: np.ndarray
) -> dict:
    """The same without resets."""
    pullbacks, keeps = [], (1 - begins[..., None]).astype("float32")
    for x, keep in zip(seen, keeps, strict=True):
        (_, state), pullback = fastrnn.vjp(x[None], params, state * keep)
        pullbacks.append(pullback)
    d_state, total = np.zeros_like(state), dict.fromkeys(params.weights, np.float32(0))
    for pullback, keep, d_y in zip(reversed(pullbacks), keeps[::-1], dy[::-1], strict=True):
        found = pullback(d_y[None], d_state, wrt=["weights", "state"])
        d_state = found.state * keep
        total = {name: total[name] + gradient for name, gradient in found.weights.items()}
    return total


def milliseconds(function: Callable, *arguments: object) -> float:
    """The shortest of some calls."""
    times = [time.perf_counter()]
    for _ in range(20):
        function(*arguments)
        times.append(time.perf_counter())
    return 1e3 * min(np.diff(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=120, help="rollouts to learn from (default: 120)")
    parser.add_argument("--steps", type=int, default=64, help="of a rollout (default: 64)")
    parser.add_argument("--rows", type=int, default=16, help="episodes that are played side by side (default: 16)")
    parser.add_argument("--hidden", type=int, default=64, help="units of the GRU (default: 64)")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    episodes, policy = Episodes(args.rows, rng), Policy(args.hidden, rng)
    state = np.zeros((1, args.rows, args.hidden), "float32")
    for update in range(args.updates):
        paid, state = policy.learn(episodes.play(args.steps), state, rng)
        if update % max(1, args.updates // 6) == 0 or update == args.updates - 1:
            print(f"rollout {update:4}: {paid:4.0%} of all pulls paid")

    seen, begins, _ = episodes.play(args.steps)
    y, final = rollout(policy.params, seen, begins, state)
    y_loop, final_loop = loop(policy.params, seen, begins, state)
    same = np.array_equal(y, y_loop) and np.array_equal(final, final_loop)
    print(f"the loop's outputs and states: {'the same' if same else 'others'}")
    dy = rng.normal(size=y.shape).astype("float32")
    ours, theirs = (f(policy.params, seen, begins, state, dy) for f in (gradients, loop_gradients))
    off = max(np.abs(ours[name] - theirs[name]).max() / np.abs(theirs[name]).max() for name in ours)
    print(f"the loop's gradients: within {off:.0e} of their largest entries")
    there = policy.params, seen, begins, state
    call, by_hand = milliseconds(rollout, *there), milliseconds(loop, *there)
    print(f"a rollout: {call:.2f} ms, the loop {by_hand:.2f} ms: {by_hand / call:.1f} times as long")
    call, by_hand = milliseconds(gradients, *there, dy), milliseconds(loop_gradients, *there, dy)
    print(f"and back: {call:.2f} ms, the loop {by_hand:.2f} ms: {by_hand / call:.1f} times as long")


if __name__ == "__main__":
    main()
