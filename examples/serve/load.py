"""Load a server with sessions that send a frame every 32 ms, time its answers, and compare their bits.

    python examples/serve/load.py --sessions 200 --frame 32ms --seconds 20

It starts `server.py` in a process of its own, unless `--url` names one that runs, and hands it all options that it does
not know itself: `--inline`, `--expire`, and so on. The exit status is 0 if all answers were right and no session ended
in a way that it should not.

(a) Frames are sent at their times, whether or not answers are late, and an answer is timed from when its frame was due.
    So neither a slow server nor a slow load generator hides a wait. How late frames were sent is the load generator's
    own doing, and shown beside: where it is not small, the answer times are not the server's alone.
(b) One session in ten is trouble, if `--trouble` says nothing else. Of these each does one thing, and then again:
      leave      lives for a second or two, says goodbye, and another one comes
      break      is reset by its side without a word, with answers on their way, and another one comes
      silent     sends nothing for a while, and goes on
      slow       reads nothing for a while and sends as fast as the server takes it; then it reads, and goes on
    Frames that are sent while a session is slow are not timed. All others are.
(c) At the end the answers of every session are compared with those of one `fastrnn.lstm` over its frames.

The clients are the websockets library's protocol without its coroutines, since those take more time than the server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import heapq
import re
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from model import FRAME_TYPE, Model, add_model_arguments, chosen_model
from server import SOCKET_BUFFER, allow_files
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

import fastrnn

KINDS = ("leave", "break", "silent", "slow")
FRAMES = 4096  # distinct ones; a session takes them in turn, from a place of its own
PATIENCE = 10.0  # seconds for what should come at once
AT_ONCE = 50  # sessions that connect at the same time


class Session(asyncio.Protocol):
    """A connection, its frames and its answers."""

    def __init__(self, url: str, first: int, messages: list[bytes], times: list[tuple[float, float, float]]) -> None:
        self.loop, self.first, self.messages, self.times = asyncio.get_running_loop(), first, messages, times
        self.protocol = ClientProtocol(parse_uri(url), max_size=64)
        self.answers, self.sent = bytearray(), 0
        self.outstanding: deque[tuple[float, float]] = deque()  # when frames without an answer were due, and sent
        self.due: float | None = None  # when its next frame is to be sent
        self.is_blocked = self.is_reset = False
        self.opened, self.lost = self.loop.create_future(), self.loop.create_future()
        self.answered = asyncio.Event()  # nothing is outstanding

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.set_write_buffer_limits(SOCKET_BUFFER)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):  # small, so that a slow reader is soon felt
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BUFFER)
        self.protocol.send_request(self.protocol.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        now = self.loop.time()
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                self.opened.set_result(None)
            elif event.opcode is Opcode.BINARY:
                self.answers += event.data
                due, sent = self.outstanding.popleft()
                if due:
                    self.times.append((due, sent, now))
                if not self.outstanding:
                    self.answered.set()
        self._write()

    def eof_received(self) -> None:
        self.protocol.receive_eof()
        self._write()

    def connection_lost(self, error: Exception | None) -> None:
        self.protocol.receive_eof()
        self.due = None
        self.answered.set()
        for future in (self.opened, self.lost):
            if not future.done():
                future.set_result(None)

    def pause_writing(self) -> None:
        self.is_blocked = True

    def resume_writing(self) -> None:
        self.is_blocked = False

    def send(self, due: float) -> None:
        """Send the next frame, unless the server has closed the session; `due` 0: it is not timed."""
        if self.protocol.state is not State.OPEN:
            return
        self.outstanding.append((due, self.loop.time()))
        self.answered.clear()
        self.transport.write(self.messages[(self.first + self.sent) % len(self.messages)])
        self.sent += 1

    def reset(self) -> None:
        """Break off as a process does that dies: the other side gets a reset."""
        self.is_reset, self.due = True, None
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    async def wait_for_answers(self) -> None:
        """Until none is outstanding, or patience ends."""
        with contextlib.suppress(asyncio.TimeoutError):
            if self.outstanding:
                await asyncio.wait_for(self.answered.wait(), PATIENCE)

    async def leave(self) -> None:
        """Wait for all answers, and say goodbye."""
        self.due = None
        await self.wait_for_answers()
        if not self.lost.done() and not self.outstanding:
            self.protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._write()
            await asyncio.wait([self.lost], timeout=PATIENCE)
        self.transport.abort()

    def complaint(self) -> str | None:
        """What was wrong with its end, if anything."""
        if self.is_reset or (not self.outstanding and self.protocol.close_code == CloseCode.NORMAL_CLOSURE):
            return None
        ended = f"ended with code {self.protocol.close_code} {self.protocol.close_reason!r}"
        return f"{len(self.outstanding)} frames had no answer in {PATIENCE:g} s; {ended}"

    def _write(self) -> None:
        for data in self.protocol.data_to_send():
            if self.transport.is_closing():
                return
            if data:
                self.transport.write(data)
            else:
                self.transport.write_eof()


class Load:
    """All sessions: slots, each of which has one session after the other."""

    def __init__(self, url: str, model: Model, args: argparse.Namespace) -> None:
        self.url, self.model, self.args = url, model, args
        rng = np.random.default_rng(args.seed)
        self.frames = rng.normal(size=(FRAMES, model.params.input_size)).astype(FRAME_TYPE)
        self.messages = [Frame(Opcode.BINARY, x.tobytes()).serialize(mask=True) for x in self.frames]
        self.times: list[tuple[float, float, float]] = []  # when a frame was due, was sent, and was answered
        self.sessions: list[Session] = []
        self.failures: list[str] = []
        self.rngs = rng.spawn(args.sessions)
        self.connecting = asyncio.Semaphore(AT_ONCE)
        self.due: list[tuple[float, int, Session]] = []  # a heap of next frames
        self.happened = dict.fromkeys(KINDS, 0)
        self.most_outstanding = 0  # frames of a slow session

    async def connect(self, rng: np.random.Generator) -> Session:
        uri, first = parse_uri(self.url), int(rng.integers(FRAMES))
        async with self.connecting:
            _, session = await asyncio.get_running_loop().create_connection(
                lambda: Session(self.url, first, self.messages, self.times), uri.host, uri.port
            )
            await asyncio.wait_for(asyncio.shield(session.opened), PATIENCE)
        self.sessions.append(session)
        return session

    def pace(self, session: Session, at: float) -> None:
        """Send a frame of a session at a time, and every `frame` seconds from then on, until its `due` is None."""
        session.due = at
        heapq.heappush(self.due, (at, id(session), session))

    async def send_frames(self) -> None:
        """Sends what is due, as long as it runs."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            while self.due and self.due[0][0] <= now:
                at, _, session = heapq.heappop(self.due)
                if session.due == at:  # otherwise it paused, and may have begun anew
                    session.send(at)
                    self.pace(session, at + self.args.frame)
            await asyncio.sleep(min(self.due[0][0] - loop.time(), 1e-3) if self.due else 1e-3)

    async def slot(self, i: int, session: Session, start: float, end: float) -> None:
        """A session, and those that come after it. The first slots are trouble."""
        loop, rng = asyncio.get_running_loop(), self.rngs[i]
        kind = KINDS[i % len(KINDS)] if i < self.args.trouble * self.args.sessions else None
        self.pace(session, start + rng.uniform(0, self.args.frame))
        while kind and (until := loop.time() + rng.uniform(0.5, 2.0)) < end - 1.0:
            await asyncio.sleep(until - loop.time())
            self.happened[kind] += 1
            if kind in ("leave", "break"):
                if kind == "leave":
                    await session.leave()
                else:
                    for _ in range(3):
                        session.send(0.0)
                    session.reset()
                try:
                    session = await self.connect(rng)
                except (OSError, asyncio.TimeoutError) as error:
                    self.failures.append(f"a session could not connect: {error!r}")
                    return
            elif session.lost.done():
                break  # the server closed it
            else:
                session.due = None
                await (self.read_nothing(session) if kind == "slow" else asyncio.sleep(rng.uniform(0.2, 1.0)))
            self.pace(session, loop.time())
        await asyncio.sleep(max(end - loop.time(), 0))
        await session.leave()

    async def read_nothing(self, session: Session) -> None:
        """Not for a second, and sends what the server takes."""
        await session.wait_for_answers()
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.0
        session.transport.pause_reading()
        while loop.time() < end and not session.lost.done():
            if session.is_blocked:
                self.most_outstanding = max(self.most_outstanding, len(session.outstanding))
            else:
                session.send(0.0)
            await asyncio.sleep(0.01 if session.is_blocked else 0)
        if not session.lost.done():
            session.transport.resume_reading()
            await session.wait_for_answers()

    async def run(self) -> tuple[float, dict[str, float], dict[str, float]]:
        """All of it. Answers the seconds in which frames were sent, and the server's counters before and after."""
        loop = asyncio.get_running_loop()
        await counters(self.url)  # an error here says that there is no server
        sessions = await asyncio.gather(*(self.connect(rng) for rng in self.rngs))
        gc.collect()
        gc.freeze()  # what is there now stays: a search for garbage does not go through it
        before = await counters(self.url)
        start = loop.time() + 0.1
        end = start + self.args.seconds
        sender = asyncio.create_task(self.send_frames())
        slots = [asyncio.create_task(self.slot(i, *each, start, end)) for i, each in enumerate(zip(sessions))]
        await asyncio.sleep(end - loop.time())
        after, seconds = await counters(self.url), loop.time() - start
        await asyncio.gather(*slots)
        if not sender.cancel():
            sender.result()  # the error that ended it
        return seconds, before, after

    def wrong_sessions(self) -> list[str]:
        """What is wrong with sessions: answers that are not those of one call, and unforeseen ends."""
        wrong = [*self.failures]
        for i, session in enumerate(self.sessions):
            n, size = divmod(len(session.answers), 4)
            x = self.frames[(session.first + np.arange(n)) % FRAMES]
            y, _ = fastrnn.lstm(x, self.model.params)
            if size or bytes(session.answers) != b"".join(map(self.model.answer, y)):
                wrong.append(f"session {i}: {n} answers are not those of fastrnn.lstm over its frames")
            if complaint := session.complaint():
                wrong.append(f"session {i}: {complaint}")
        return wrong

    def report(self, seconds: float, before: dict[str, float], after: dict[str, float]) -> str:
        if not self.times:
            return "no frame had an answer"
        due, sent, answered = np.array(self.times).T
        frame, n = self.args.frame, self.args.sessions
        rows = {
            "answered after it was due": answered - due,
            "after it was sent": answered - sent,
            "sent late": sent - due,
        }
        lines = ["a frame was, ms                 p50      p99    p99.9     most"]
        for name, times in rows.items():
            values = np.percentile(times, [50, 99, 99.9, 100]) * 1e3
            lines.append(f"{name:26}" + "".join(f"{value:9.2f}" for value in values))
        missed = np.count_nonzero(answered - due > frame)
        own = np.count_nonzero(sent - due > frame)
        lines.append(
            f"deadlines of {frame * 1e3:g} ms missed: {missed} of {len(due)} frames; {own} were sent as late as that"
        )
        used = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
        answers = after["serve_answers_total"] - before["serve_answers_total"]
        lines.append(
            f"the server's CPU: {used / seconds:.3f} cores, {1e3 * used / seconds / n:.3f} ms a second for a session, "
            f"{1e6 * used / max(answers, 1):.0f} us for each of {answers:.0f} answers"
        )
        sizes = "fastrnn_batcher_batch_sizes_"
        if sizes + "sum" in after:
            steps, batches = (after[sizes + what] - before[sizes + what] for what in ("sum", "count"))
            lines.append(f"steps a batch: {steps / max(batches, 1):.1f}")
        peak = after["process_resident_memory_max_bytes"]
        rest = (peak - before["process_resident_memory_max_bytes"]) / 2**20
        lines.append(f"the server's memory: {peak / 2**20:.1f} MiB at most, {rest:.1f} of them since all had connected")
        happened = ", ".join(f"{name} {count}" for name, count in self.happened.items())
        lines.append(f"sessions: {len(self.sessions)}; trouble: {happened}")
        if self.most_outstanding:
            lines.append(f"a slow session could send {self.most_outstanding} frames ahead of its answers")
        if np.percentile(sent - due, 99) > frame / 8:
            lines.append("the load generator was late itself: these times are not the server's alone")
        return "\n".join(lines)


async def counters(url: str) -> dict[str, float]:
    """The server's, by name."""

    def read() -> str:
        uri = parse_uri(url)
        with contextlib.closing(HTTPConnection(uri.host, uri.port, timeout=6 * PATIENCE)) as connection:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    try:
        text = await asyncio.to_thread(read)
    except OSError as error:
        raise SystemExit(f"expected a server at {url}, got {error}") from None
    return {name: float(count) for name, count in re.findall(r"^([a-z_]+) (\S+)$", text, re.MULTILINE)}


@contextlib.asynccontextmanager
async def started_server(options: list[str]) -> AsyncIterator[str]:
    """A server in a process of its own, from its start to its orderly end."""
    command = [str(Path(__file__).with_name("server.py")), "--port", "0", *options]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    said = (await process.stdout.readline()).decode()
    found = re.search(r"ws://\S+", said)
    if not found:
        raise SystemExit(f"server.py: expected an address, got {said!r} and exit status {await process.wait()}")
    try:
        yield found[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        rest, _ = await process.communicate()
        print(f"the server: {rest.decode().strip()}; exit status {process.returncode}")
    if process.returncode:
        raise SystemExit(1)


def seconds_of(text: str) -> float:
    """Seconds of "32ms" or "0.032s"."""
    found = re.fullmatch(r"(\d+\.?\d*)(ms|s)", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"expected a time such as 32ms, got {text!r}")
    return float(found[1]) * (1e-3 if found[2] == "ms" else 1.0)


async def run(args: argparse.Namespace, options: list[str]) -> bool:
    model = chosen_model(args)
    allow_files(args.sessions + 64)
    async with contextlib.AsyncExitStack() as stack:
        url = args.url or await stack.enter_async_context(started_server(options))
        load = Load(url, model, args)
        print(load.report(*await load.run()), flush=True)
    wrong = load.wrong_sessions()
    print("\n".join(wrong[:10]) or f"bits: all {sum(len(s.answers) for s in load.sessions) // 4} answers are right")
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--sessions", type=int, default=200, help="at the same time (default: 200)")
    parser.add_argument("--frame", type=seconds_of, default=32e-3, help="time between frames (default: 32ms)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long frames are sent (default: 20)")
    parser.add_argument("--trouble", type=float, default=0.1, help="share of sessions that are trouble (default: 0.1)")
    parser.add_argument("--url", help="of a server that runs; none is started then")
    add_model_arguments(parser)
    args, options = parser.parse_known_args()
    if args.url and options:
        parser.error(f"expected no options of the server beside --url, got {' '.join(options)}")
    if args.sessions < 1:
        parser.error(f"--sessions: expected 1 or more, got {args.sessions}")
    model = ["--inputs", str(args.inputs), "--hidden", str(args.hidden), "--seed", str(args.seed)]
    if args.model:
        model = ["--model", str(args.model)]
    sys.exit(not asyncio.run(run(args, [*model, *options])))


if __name__ == "__main__":
    main()
