"""Sessions of a service on several processes or machines, by Ray Serve.

    pip install 'ray[serve]'
    python examples/ray_serve.py

Each replica of the service has the weights and a batcher. Serve sends a session where its name leads on a ring of
replicas (consistent hashing), so it stays with one replica, which keeps its state. The caller keeps the state of some
steps ago, and the frames since: O(H) bytes and a few frames. Where a step finds its session gone, since a replica was
killed or the ring has changed, the caller hands both to the replica that is there now. How a sequence is cut into calls
changes no bit, so the outputs are those of a session that never moved.

Here sessions talk at once, one is moved on purpose, and a replica is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.config import RequestRouterConfig
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter

import fastrnn
import fastrnn.aio

KEPT = 20  # frames at most that a caller keeps
EXPIRE = 600.0  # seconds without a step after which a replica closes a session: it has gone elsewhere


@serve.deployment(
    num_replicas=2,
    max_ongoing_requests=1000,
    request_router_config=RequestRouterConfig(request_router_class=ConsistentHashRouter),
)
class Replica:
    """Sessions by their tickets. A ticket is new whenever a session comes: no older copy of a state is taken for it."""

    def __init__(self, path: str) -> None:
        self.batcher = fastrnn.aio.Batcher(fastrnn.load(path), expire=EXPIRE)
        self.sessions: dict[str, fastrnn.aio.Session] = {}

    async def resume(self, ticket: str, state: Any, frames: list[np.ndarray]) -> np.ndarray:
        """Open a session that was elsewhere: the output of the last frame since that state."""
        if len(self.sessions) > 2 * len(self.batcher) + 100:  # most have expired
            self.sessions = {ticket: session for ticket, session in self.sessions.items() if session.is_open}
        session = await self.batcher.open(state)
        for x in frames:
            y = await self.batcher.step(session, x)
        self.sessions[ticket] = session
        return y

    async def step(self, ticket: str, x: np.ndarray) -> np.ndarray | None:
        """The output of a step; None where the session is not here."""
        try:
            return await self.batcher.step(self.sessions[ticket], x)
        except (KeyError, fastrnn.aio.SessionClosedError):
            self.sessions.pop(ticket, None)
            return None

    async def state(self, ticket: str) -> Any:
        try:
            return await self.batcher.state(self.sessions[ticket])
        except (KeyError, fastrnn.aio.SessionClosedError):
            self.sessions.pop(ticket, None)
            return None

    async def close(self, ticket: str) -> None:
        if ticket in self.sessions:
            self.batcher.close(self.sessions.pop(ticket))

    async def pid(self) -> int:
        return os.getpid()


class Session:
    """The caller's side of a session, which takes one step at a time. A step that raises has not been taken."""

    def __init__(self, service: Any, name: str) -> None:
        self.service, self.at = service, service.options(session_id=name)
        self.ticket = ""  # nowhere
        self.state: Any = None
        self.frames: list[np.ndarray] = []  # since this state
        self.resumed, self.longest = 0, 0.0

    async def step(self, x: np.ndarray) -> np.ndarray:
        started, ticket, self.ticket = time.perf_counter(), self.ticket, ""  # nowhere, until there is an answer
        if len(self.frames) >= KEPT and (state := await self.ask("state", ticket)) is not None:
            self.state, self.frames = state, []
        y = await self.ask("step", ticket, x) if ticket else None
        while y is None:
            ticket, self.resumed = uuid.uuid4().hex, self.resumed + 1
            y = await self.ask("resume", ticket, self.state, [*self.frames, x])
        self.ticket, self.frames = ticket, [*self.frames, x]
        self.longest = max(self.longest, time.perf_counter() - started)
        return y

    async def move(self, name: str) -> None:
        """Go where another name leads: the next step brings the state there."""
        if (state := await self.ask("state", self.ticket)) is not None:
            self.state, self.frames = state, []
        await self.close()
        self.at = self.service.options(session_id=name)

    async def close(self) -> None:
        await self.ask("close", self.ticket)
        self.ticket = ""

    async def ask(self, method: str, *arguments: Any) -> Any:
        """The answer of the replica; None where it died over the question."""
        try:
            return await getattr(self.at, method).remote(*arguments)
        except RayActorError:
            await asyncio.sleep(0.05)  # until Serve knows
            return None


async def main(hidden: int, count: int, steps: int) -> None:
    rng, bound = np.random.default_rng(0), hidden**-0.5
    shapes = {"weight_ih": (4 * hidden, hidden), "weight_hh": (4 * hidden, hidden)}
    params = fastrnn.LSTMParams({k: rng.uniform(-bound, bound, shape).astype("f4") for k, shape in shapes.items()})
    x = rng.uniform(-1, 1, (count, steps, hidden)).astype("f4")
    y = np.empty_like(x)

    with tempfile.TemporaryDirectory() as folder:  # that all replicas see, those too that are started later
        path = str(Path(folder) / "layer.npz")
        params.save(path)
        service = await asyncio.to_thread(serve.run, Replica.bind(path), route_prefix=None)
        sessions = [Session(service, f"session {i}") for i in range(count)]

        async def talk_all(first: int, last: int) -> None:
            async def talk(i: int) -> None:
                for t in range(first, last):
                    y[i, t] = await sessions[i].step(x[i, t])

            await asyncio.gather(*(talk(i) for i in range(count)))

        await talk_all(0, steps // 4)
        pids = [await session.ask("pid") for session in sessions]
        print(f"sessions of each replica: {sorted(pids.count(pid) for pid in set(pids))}")
        most = max(pids, key=pids.count)

        moving = sessions[pids.index(most)]
        names = (f"session {pids.index(most)}, moved {i}" for i in range(100))
        while await moving.ask("pid") == most:
            await moving.move(next(names))
        await talk_all(steps // 4, steps // 2)
        print(f"a session was moved: state of {sum(array.nbytes for array in moving.state)} bytes")

        async def kill() -> None:
            await asyncio.sleep(0.05)
            os.kill(most, signal.SIGKILL)

        counts = [session.resumed for session in sessions]
        await asyncio.gather(kill(), talk_all(steps // 2, steps))
        resumed = [session.resumed - count for session, count in zip(sessions, counts)]
        print(f"a replica was killed: {sum(map(bool, resumed))} sessions were resumed")
        print(f"longest step: {max(session.longest for session in sessions):.2f} s")
        for session in sessions:
            await session.close()
    expected, _ = fastrnn.lstm(x, params, batch_first=True)
    print(f"bits of all outputs: {'the same' if np.array_equal(y, expected) else 'other ones'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--sessions", type=int, default=24)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    os.chdir(Path(__file__).parent)  # Ray's processes look for modules here first: not in a checkout, unbuilt
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(proxy_location="Disabled")
    asyncio.run(main(arguments.hidden, arguments.sessions, arguments.steps))
    ray.shutdown()  # and all processes that it started
