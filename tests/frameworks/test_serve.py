"""The example examples/serve: the server and its load generator as a user runs them, and what the server refuses."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastrnn
from support.environment import ROOT, package

package("websockets")
from websockets.exceptions import ConnectionClosed  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

resource = pytest.importorskip("resource", reason="the example needs Unix")

EXAMPLE = ROOT / "examples" / "serve"
served: Any = ModuleType("served")  # not imported as `model`, since another example has one too
SourceFileLoader("served", str(EXAMPLE / "model.py")).exec_module(served)

WAYS = ["", "--inline"]
HIDDEN = ["--hidden", "16"]
MODEL = served.make_model(40, 16)
FRAMES = np.random.default_rng(0).normal(size=(50, 40)).astype("<f4")
MIB = 2**20


class Server:
    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url

    def connect(self, **options: Any) -> Any:
        return connect(self.url, proxy=None, compression=None, ping_interval=None, **options)

    def connect_slow(self) -> Any:
        """A session that reads nothing, and has little room for what it doesn't read."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = self.url.removeprefix("ws://").split(":")
        sock.connect((host, int(port)))
        session = self.connect(sock=sock, max_queue=1, close_timeout=0.1)
        sock.settimeout(20)
        return session

    def metrics(self) -> dict[str, float]:
        connection = HTTPConnection(self.url.removeprefix("ws://"), timeout=20)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return {name: float(count) for name, count in re.findall(r"^([a-z_]+) (\S+)$", text, re.MULTILINE)}


@contextlib.contextmanager
def server(*options: str) -> Iterator[Server]:
    """A server that must end well."""
    command = [sys.executable, str(EXAMPLE / "server.py"), "--port", "0", *HIDDEN, *filter(None, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            found = re.fullmatch(r"listening on (ws://\S+)\n", said)
            assert found, process.communicate(timeout=20)
            yield Server(process, found[1])
            process.send_signal(signal.SIGTERM)
            _, complaints = process.communicate(timeout=60)
            assert process.returncode == 0
            assert not complaints
        finally:
            process.kill()


def load(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE / "load.py"), *HIDDEN, *filter(None, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180)


def closed(session: Any) -> tuple[int, str]:
    """The code and the reason that a session is closed with."""
    with pytest.raises(ConnectionClosed) as caught:
        session.recv(timeout=20)
    assert caught.value.rcvd is not None, "broken off"
    return caught.value.rcvd.code, caught.value.rcvd.reason


def flood(session: Any) -> None:
    """Send frames as fast as they are taken, until the session is closed."""
    until = time.monotonic() + 20
    with contextlib.suppress(OSError, ConnectionClosed):
        while time.monotonic() < until:
            session.send(FRAMES[0].tobytes())


def talk(session: Any, frames: np.ndarray) -> list[bytes]:
    answers = []
    for x in frames:
        session.send(x.tobytes())
        answers.append(session.recv(timeout=20))
    return answers


def wait_until_nothing_moves(it: Server) -> None:
    answers = -1.0
    while (now := it.metrics()["serve_answers_total"]) != answers:
        answers = now
        time.sleep(0.3)


def expected(frames: np.ndarray) -> list[bytes]:
    return [MODEL.answer(y) for y in fastrnn.lstm(frames, MODEL.params)[0]]


@pytest.mark.parametrize("way", WAYS)
def test_load(way: str) -> None:
    """Fifty sessions, of which twenty leave, break off, fall silent or read slowly: all bits are right."""
    done = load("--sessions", "50", "--frame", "64ms", "--seconds", "4", "--trouble", "0.4", way)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    assert re.search(r"\nbits: all \d+ answers are right\n", done.stdout)
    (trouble,) = re.findall(r"trouble: (.*)", done.stdout)
    assert all(int(count) for count in re.findall(r"\d+", trouble)), trouble
    (peak, grown) = re.findall(r"the server's memory: ([\d.]+) MiB at most, ([\d.]+)", done.stdout)[0]
    assert float(grown) < 10, peak  # 50 sessions of 64 KiB, and what Python keeps
    assert "exit status 0\n" in done.stdout


def test_answers_are_sent_at_once() -> None:
    """Nagle's algorithm would keep the second of two answers until the first is acknowledged, 40 ms later."""
    seconds = []
    with server() as it, it.connect() as session:
        for _ in range(60):
            begun = time.perf_counter()
            session.send(FRAMES[0].tobytes())
            session.send(FRAMES[1].tobytes())
            session.recv(timeout=20)
            session.recv(timeout=20)
            seconds.append(time.perf_counter() - begun)
    assert min(seconds[30:]) < 0.02  # acknowledgements come at once while a connection is young


def test_load_finds_wrong_bits() -> None:
    """A server of other weights."""
    with server("--seed", "1") as it:
        done = load("--url", it.url, "--sessions", "2", "--seconds", "1")
        assert done.returncode == 1
        assert "session 0: " in done.stdout
        assert "answers are not those of fastrnn.lstm over its frames" in done.stdout


def test_load_finds_refused_sessions() -> None:
    """Those that the server has no room for are named; the others go on."""
    done = load("--sessions", "3", "--seconds", "1", "--trouble", "0", "--max-sessions", "2")
    assert done.returncode == 1
    assert "ended with code 1013 'expected at most 2 sessions, got one more: try again later'" in done.stdout
    assert re.search(r"the server: 2 sessions, [1-9]\d* answers, 1 refused", done.stdout)


def test_load_says_what_it_expected() -> None:
    done = load("--url", "ws://127.0.0.1:9")
    assert done.returncode == 1
    assert "expected a server at ws://127.0.0.1:9, got " in done.stderr
    done = load("--frame", "32")
    assert done.returncode == 2
    assert "--frame: expected a time such as 32ms, got '32'" in done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_wrong_messages(way: str) -> None:
    """Each ends its own session, with a reason, and no other."""
    nan = FRAMES[0].copy()
    nan[3] = np.nan
    messages: list[tuple[bytes | str, int, str]] = [
        ("hello", 1003, "expected binary messages of 40 float32, got a text message"),
        (b"12345678", 1007, "expected 160 bytes, which are 40 float32, got 8 bytes"),
        (b"", 1007, "expected 160 bytes, which are 40 float32, got 0 bytes"),
        (nan.tobytes(), 1007, "expected finite numbers, got nan at 3"),
    ]
    with server(way) as it, it.connect() as other:
        answers = talk(other, FRAMES[:5])
        for message, code, reason in messages:
            with it.connect() as session:
                session.send(message)
                assert closed(session) == (code, reason)
        with it.connect() as session:
            session.send(bytes(161))
            assert closed(session)[0] == 1009  # the library's own, before it reads the message
        answers += talk(other, FRAMES[5:])
        assert answers == expected(FRAMES)
        assert it.metrics()["serve_wrong_messages_total"] == len(messages)


def test_too_many_sessions() -> None:
    with server("--max-sessions", "2") as it:
        with it.connect() as first, it.connect():
            with it.connect() as third:
                assert closed(third) == (1013, "expected at most 2 sessions, got one more: try again later")
            assert talk(first, FRAMES[:2]) == expected(FRAMES[:2])
        with it.connect() as fourth:
            assert talk(fourth, FRAMES[:2]) == expected(FRAMES[:2])
        counts = it.metrics()
    assert (counts["serve_sessions_opened_total"], counts["serve_sessions_refused_total"]) == (3, 1)


@pytest.mark.parametrize("way", WAYS)
def test_a_silent_session_expires(way: str) -> None:
    with server("--expire", "1", way) as it, it.connect() as session:
        talk(session, FRAMES[:2])
        assert closed(session) == (1008, "expected a frame every 1 s, and that answers are read")
        assert it.metrics()["serve_sessions_expired_total"] == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_session_that_reads_nothing(way: str) -> None:
    """It can't send on, expires, and takes a bounded number of bytes until then."""
    with server("--expire", "2", way) as it:
        before = it.metrics()["process_resident_memory_max_bytes"]
        with it.connect_slow() as session:
            begun = time.monotonic()
            flood(session)
            assert time.monotonic() - begun < 15
            counts = it.metrics()
        assert counts["serve_sessions_expired_total"] == 1
        assert counts["serve_sessions"] == 0
        batcher = "fastrnn_batcher_sessions_"
        assert counts.get(batcher + "opened_total") == counts.get(batcher + "closed_total")
        assert counts["serve_answers_total"] < 10_000
        assert counts["process_resident_memory_max_bytes"] - before < 4 * MIB


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shutdown(number: signal.Signals) -> None:
    """Sessions get a code, one that answers nothing is aborted, and the process ends in time."""
    with server() as it, it.connect() as session, it.connect_slow() as stuck:
        talk(session, FRAMES[:2])
        flooding = threading.Thread(target=flood, args=[stuck])
        flooding.start()
        wait_until_nothing_moves(it)
        begun = time.monotonic()
        it.process.send_signal(number)
        assert closed(session)[0] == 1001
        assert it.process.wait(20) == 0
        assert time.monotonic() - begun < 15
        flooding.join()


def test_answers_do_not_depend_on_where_outputs_lie() -> None:
    """The head of a row, alone, at odd addresses, in steps of memory, and out of a batch."""
    for hidden in (1, 7, 16, 100, 128, 300):
        model = served.make_model(4, hidden)
        ys = np.random.default_rng(hidden).normal(size=(20, hidden)).astype("f4")
        alone = [model.answer(y.copy()) for y in ys]
        assert [model.answer(y) for y in ys] == alone
        assert [model.answer(y) for y in np.asfortranarray(ys)] == alone
        for offset in (1, 3, 4, 12):
            moved = np.zeros(ys.nbytes + offset, "u1")[offset:].view("f4").reshape(ys.shape)
            moved[:] = ys
            assert [model.answer(y) for y in moved] == alone


def test_a_model_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    arrays = {**MODEL.params.weights, "head_weight": MODEL.head_weight, "head_bias": np.float32(0)}
    np.savez(path, **arrays)
    loaded = served.load_model(path)
    assert loaded.params == MODEL.params
    done = load("--model", str(path), "--sessions", "2", "--seconds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    del arrays["head_bias"]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"head_weight and head_bias beside the LSTM's arrays, got no 'head_bias'"):
        served.load_model(path)
    np.savez(path, **arrays, head_bias=np.zeros(3))
    with pytest.raises(ValueError, match=r"head_bias: expected one number, got \(3,\)"):
        served.load_model(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--max-sessions 0", "--max-sessions: expected 1 or more, got 0"),
        ("--expire nan", "--expire: expected seconds above 0, got nan"),
        ("--window -1", "--window: expected milliseconds from 0 to 1e6, got -1.0"),
        ("--hidden 0", "--hidden: expected 1 or more, got 0"),
        ("--model nothing.npz", "expected a model, got: "),
    ],
)
def test_wrong_options(options: str, message: str) -> None:
    command = [sys.executable, str(EXAMPLE / "server.py"), "--port", "0", *options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_open_files_are_allowed() -> None:
    """A limit that is too low is said at the start, not by sessions that can't connect."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("no limit of open files")
    command = [sys.executable, str(EXAMPLE / "server.py"), "--port", "0", "--max-sessions", str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"expected a limit of {hard + 64} open files or more, got {hard} (ulimit -Hn)" in done.stderr
