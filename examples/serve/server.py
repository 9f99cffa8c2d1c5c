"""Answer frames of many sessions over WebSockets, each session with a recurrent state of its own.

    python examples/serve/server.py --port 8765

A session is a connection. A binary message is a frame, 40 float32 in little-endian order, and gets an answer, one
float32; answers come in the order of the frames. http://127.0.0.1:8765/metrics has the counters, as Prometheus reads
them. SIGTERM and SIGINT end it, and its sessions with close code 1001.

(a) A session has one frame at work. Others wait in its queue, which holds `QUEUE` of them; then its socket is not read
    until there is room, and the sender has to wait. Answers that are not read wait in turn, `WRITE_LIMIT` bytes of
    them, and then no further frame is taken. So a session holds a bounded number of bytes, however fast it sends and
    however slowly it reads.
(b) A session without an answer for `--expire` seconds is closed, whether it sends nothing, reads nothing, or is gone
    without a word. There are at most `--max-sessions`, so all memory is bounded.
(c) A session's step runs in a batch with others that wait (`fastrnn.aio.Batcher`), or by `--inline` at once in a
    stream of its own, which costs less where a step is short (docs/serving.md).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import numpy as np
from model import FRAME_TYPE, Model, WrongMessageError, add_model_arguments, chosen_model
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

import fastrnn
from fastrnn import aio

QUEUE = 4  # frames of a session that wait to be taken
WRITE_LIMIT = 1024  # bytes of answers that wait to be sent
SOCKET_BUFFER = 8192  # bytes that the system holds for a session, each way; Linux doubles this for its own needs
CLOSE_SECONDS = 2.0  # for the closing handshake, then the connection is aborted

Step = Callable[[np.ndarray], Awaitable[np.ndarray]]


class Service:
    """Sessions, and what is counted of them."""

    def __init__(self, model: Model, *, inline: bool, window: float, max_sessions: int, expire: float) -> None:
        self.model, self.inline, self.max_sessions, self.expire = model, inline, max_sessions, expire
        self.used: dict[ServerConnection, float] = {}  # when a session had its last answer; infinity if it is ending
        self.opened = self.refused = self.expired = self.wrong = self.answers = 0
        self._ending: set[asyncio.Task[None]] = set()
        self._batcher = aio.Batcher(model.params, window=window, max_waiting=max_sessions, max_waiting_per_session=1)

    async def talk(self, connection: ServerConnection) -> None:
        """A session, from the end of the opening handshake on."""
        if len(self.used) >= self.max_sessions:
            self.refused += 1
            message = f"expected at most {self.max_sessions} sessions, got one more: try again later"
            await self._end(connection, CloseCode.TRY_AGAIN_LATER, message)
            return
        now = asyncio.get_running_loop().time
        self.opened += 1
        self.used[connection] = now()
        try:
            async with self._stream() as step:
                async for message in connection:
                    y = await step(self.model.frame(message))
                    await connection.send(self.model.answer(y))
                    self.answers += 1
                    self.used[connection] = max(now(), self.used[connection])
        except WrongMessageError as error:
            self.wrong += 1
            await self._end(connection, error.code, str(error))
        except ConnectionClosed:
            pass  # the session is over, in whatever way
        finally:
            del self.used[connection]

    @contextlib.asynccontextmanager
    async def _stream(self) -> AsyncIterator[Step]:
        """A step of a new session, as a function."""
        if self.inline:
            stream = fastrnn.Stream(self.model.params)

            async def step(x: np.ndarray) -> np.ndarray:
                return stream.step(x)

            yield step
            return
        session = await self._batcher.open()
        try:
            yield lambda x: self._batcher.step(session, x)
        finally:
            self._batcher.close(session)

    async def _end(self, connection: ServerConnection, code: int, reason: str) -> None:
        """Close a connection. One that does not answer, or does not read what was written before, is aborted."""
        try:
            await asyncio.wait_for(connection.close(code, reason), CLOSE_SECONDS)
        except asyncio.TimeoutError:
            connection.transport.abort()

    async def expire_idle(self) -> None:
        """Closes sessions that have had no answer for too long, as long as it runs."""
        while True:
            await asyncio.sleep(self.expire / 4)
            before = asyncio.get_running_loop().time() - self.expire
            for connection in [connection for connection, used in self.used.items() if used < before]:
                self.expired += 1
                self.used[connection] = np.inf
                reason = f"expected a frame every {self.expire:g} s, and that answers are read"
                task = asyncio.create_task(self._end(connection, CloseCode.POLICY_VIOLATION, reason))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)

    async def end(self, server: Server) -> None:
        """Close all sessions with code 1001, and abort those that don't answer or don't read."""
        server.close()
        ended = asyncio.create_task(server.wait_closed())
        if not (await asyncio.wait([ended], timeout=CLOSE_SECONDS))[0]:
            for connection in self.used:
                connection.transport.abort()
        await ended
        await self._batcher.aclose()

    def respond(self, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to a request for counters; None: the request opens a session."""
        if request.path != "/metrics":
            return None
        headers = Headers({"Content-Type": "text/plain; version=0.0.4", "Connection": "close"})
        body = self.metrics().encode()
        headers["Content-Length"] = str(len(body))
        return Response(HTTPStatus.OK.value, HTTPStatus.OK.phrase, headers, body)

    def metrics(self) -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        counts = {
            "process_cpu_seconds_total": time.process_time(),
            "process_resident_memory_max_bytes": peak,
            "serve_sessions": len(self.used),
            **{f"serve_sessions_{name}_total": getattr(self, name) for name in ("opened", "refused", "expired")},
            "serve_wrong_messages_total": self.wrong,
            "serve_answers_total": self.answers,
        }
        kinds = {name: "counter" if name.endswith("_total") else "gauge" for name in counts}
        own = "".join(f"# TYPE {name} {kinds[name]}\n{name} {count}\n" for name, count in counts.items())
        return own + ("" if self.inline else self._batcher.counters.prometheus())


def allow_files(count: int) -> None:
    """Raise the limit of open files, of which each connection is one, as far as needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if most < count:
        raise SystemExit(f"expected a limit of {count} open files or more, got {hard} (ulimit -Hn)")
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def run(service: Service, host: str, port: int) -> None:
    """Serve until a signal comes."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = await serve(
        service.talk,
        host,
        port,
        process_request=service.respond,
        compression=None,  # random bits of float32 don't shrink, and a compressor takes some 100 KB a connection
        ping_interval=None,  # a session that is gone expires
        close_timeout=CLOSE_SECONDS,
        max_size=service.model.params.input_size * FRAME_TYPE.itemsize,
        max_queue=QUEUE,
        write_limit=WRITE_LIMIT,
        backlog=1024,
        start_serving=False,
    )
    for listener in server.sockets:  # connections inherit these; the system's defaults grow to megabytes
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # answers don't wait to be acknowledged
    await server.start_serving()
    host, port = server.sockets[0].getsockname()[:2]
    print(f"listening on ws://{host}:{port}", flush=True)
    expiry = asyncio.create_task(service.expire_idle())
    await stop.wait()
    expiry.cancel()
    await service.end(server)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8765, help="0 takes a free one (default: 8765)")
    parser.add_argument("--inline", action="store_true", help="run a step where its frame arrives, in no batch")
    parser.add_argument(
        "--window", type=float, default=0.0, help="milliseconds that a step waits for others (default: 0)"
    )
    parser.add_argument("--max-sessions", type=int, default=2000, help="a further one is refused (default: 2000)")
    parser.add_argument("--expire", type=float, default=30.0, help="seconds without an answer (default: 30)")
    add_model_arguments(parser)
    args = parser.parse_args()
    if args.max_sessions < 1:
        parser.error(f"--max-sessions: expected 1 or more, got {args.max_sessions}")
    if not 0 < args.expire < float("inf"):
        parser.error(f"--expire: expected seconds above 0, got {args.expire}")
    if not 0 <= args.window < 1e6:
        parser.error(f"--window: expected milliseconds from 0 to 1e6, got {args.window}")
    logging.basicConfig(level=logging.WARNING)
    allow_files(args.max_sessions + 64)
    service = Service(
        chosen_model(args),
        inline=args.inline,
        window=args.window / 1e3,
        max_sessions=args.max_sessions,
        expire=args.expire,
    )
    asyncio.run(run(service, args.host, args.port))
    print(f"{service.opened} sessions, {service.answers} answers, {service.refused} refused, {service.expired} expired")


if __name__ == "__main__":
    main()
