"""Times sessions in one event loop that have a frame every 32 ms, for docs/serving.md.

How long after its time a frame is answered, and how much of a core that takes, by H and by how many sessions there are.

python tools/measure_serving.py [--hidden H ..] [--sessions N ..]

"nothing" awaits no step: what the loop and the sessions themselves take, each a task that sleeps. "one task" submits
all frames that are due, once a millisecond, as a loop does that finds many sockets ready at once.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

import fastrnn
from fastrnn import aio

FRAME = 32e-3
WAYS = ("nothing", "inline", "batcher, window 0 ms", "batcher, window 2 ms", "one task, batcher, window 0 ms")
SECONDS = 5.0
Step = Callable[[np.ndarray], Awaitable[Any]]


async def talk(step: Step, x: np.ndarray, phase: float, until: float, seconds: list[float]) -> None:
    """A session: frames at their times. One that waits for the answer to the last one is late from its own time on."""
    loop = asyncio.get_running_loop()
    at = loop.time() + phase
    while at < until:
        await asyncio.sleep(max(at - loop.time(), 0))
        await step(x)
        seconds.append(loop.time() - at)
        at += FRAME


async def measure(make: Callable[[], Awaitable[Step]], n: int, x: np.ndarray) -> tuple[list[float], float]:
    """Seconds from the times of all frames to their answers, and the part of a core that the process took."""
    rng, seconds = np.random.default_rng(0), list[float]()
    steps = [await make() for _ in range(n)]
    started, used = time.perf_counter(), time.process_time()
    until = asyncio.get_running_loop().time() + SECONDS
    await asyncio.gather(*(talk(step, x, rng.uniform(0, FRAME), until, seconds) for step in steps))
    return seconds, (time.process_time() - used) / (time.perf_counter() - started)


async def nothing() -> Step:
    async def step(x: np.ndarray) -> None:
        pass

    return step


def inline(params: Any) -> Callable[[], Awaitable[Step]]:
    async def make() -> Step:
        stream = fastrnn.Stream(params)

        async def step(x: np.ndarray) -> np.ndarray:
            return stream.step(x)

        return step

    return make


def batched(batcher: aio.Batcher) -> Callable[[], Awaitable[Step]]:
    async def make() -> Step:
        session = await batcher.open()
        return lambda x: batcher.step(session, x)

    return make


async def measure_one_task(batcher: aio.Batcher, n: int, x: np.ndarray) -> tuple[list[float], float]:
    """The same of one task that submits the frames of all sessions."""
    loop, seconds = asyncio.get_running_loop(), list[float]()
    phases = np.sort(np.random.default_rng(0).uniform(0, FRAME, n))
    sessions = [await batcher.open() for _ in range(n)]
    started, used, begin = time.perf_counter(), time.process_time(), loop.time()
    due = deque(
        (begin + frame * FRAME + phase, i) for frame in range(int(SECONDS / FRAME)) for i, phase in enumerate(phases)
    )
    while due:
        while due and due[0][0] <= loop.time():
            at, i = due.popleft()
            answered = batcher.submit(sessions[i], x)
            answered.add_done_callback(lambda _, at=at: seconds.append(loop.time() - at))
        await asyncio.sleep(1e-3)
    await answered
    await asyncio.sleep(0)
    return seconds, (time.process_time() - used) / (time.perf_counter() - started)


async def run(way: str, params: Any, n: int) -> str:
    x = np.zeros(params.input_size, params.dtype)
    rows = ""
    if way == "nothing":
        seconds, cores = await measure(nothing, n, x)
    elif way == "inline":
        seconds, cores = await measure(inline(params), n, x)
    else:
        window, most = float(way.split()[-2]) * 1e-3, 10**6  # so that what is too much is late, and not refused
        async with aio.Batcher(params, window=window, max_waiting=most, max_waiting_per_session=most) as batcher:
            if way.startswith("one task"):
                seconds, cores = await measure_one_task(batcher, n, x)
            else:
                seconds, cores = await measure(batched(batcher), n, x)
            rows = f"{batcher.counters.batch_sizes.total / max(batcher.counters.batch_sizes.count, 1):.1f}"
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    reached = len(seconds) / (n * SECONDS / FRAME)
    return f"{p50:.2f} | {p99:.2f} | {cores:.2f} | {rows} | {reached:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 512, 1024])
    parser.add_argument("--sessions", type=int, nargs="+", default=[20, 200, 1000])
    arguments = parser.parse_args()
    print("| H | sessions | way | p50, ms | p99, ms | cores | steps a batch | steps taken |")
    print("|---|---|---|---|---|---|---|---|")
    for hidden in arguments.hidden:
        rng, bound = np.random.default_rng(0), hidden**-0.5
        shapes = {"weight_ih": (4 * hidden, hidden), "weight_hh": (4 * hidden, hidden)}
        params = fastrnn.LSTMParams({k: rng.uniform(-bound, bound, shape).astype("f4") for k, shape in shapes.items()})
        for n in arguments.sessions:
            for way in WAYS:
                print(f"| {hidden} | {n} | {way} | {asyncio.run(run(way, params, n))} |", flush=True)


if __name__ == "__main__":
    main()
