"""The command `fastrnn`: a report on this build; layers in files listed, converted, checked and timed.

Exit codes: 0, 1 where a check failed or no layer could be read, 2 where the command could not be done, with one line on
the standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, cast

import numpy as np

from fastrnn import _check, _core, _peers, _rounding, _streaming
from fastrnn._arguments import TIMED, Parser, complain, fail, line, parser, spelled
from fastrnn._arrays import EMBEDDING
from fastrnn._cells import CELLS
from fastrnn._nearness import nearness, read_input
from fastrnn._precision import NARROW, OF_BYTES, Outlier, outliers, split_scales
from fastrnn._sources import FLAGS, Source, recognise
from fastrnn._types import Precision
from fastrnn.config import __version__, get_num_threads, resolve_target, show_config, usable_targets
from fastrnn.params import Params

_MOST_NUMBERS = 2**28  # in a run, so that it does not end for want of memory


# Layers of files.


@contextmanager
def _readable(path: str) -> Iterator[str]:
    """The path; for "-" that of a file with what the standard input has, since readers go back and forth."""
    if path != "-":
        yield path
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("-: expected a file on the standard input, as of fastrnn inspect - < model.onnx, got none")
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "stdin")
        with open(copy, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield copy
        except BrokenPipeError:
            raise
        except _ERRORS as error:  # by the name that was given
            raise ValueError(_said(error).replace(copy, "-")) from None


def _open_layer(args: argparse.Namespace, source: Source) -> Params:
    """The layer of a file that the flags name."""
    given = {flag: getattr(args, flag) for flag in FLAGS if getattr(args, flag) is not None}
    for flag in given:
        if flag not in source.flags:
            said = f"expected none for a {source.title} file, which says it itself or has no such thing"
            raise ValueError(f"{spelled(flag)}: {said}")
    if given.get("prefix") and [*source.find(args.FILE)] == [""]:
        got = _check.shown(args.prefix)
        raise ValueError(f"--prefix: expected none, since nothing stands before the names in {args.FILE}, got {got}")
    if source.has_foreign_bytes and args.precision and args.precision not in OF_BYTES:
        given["precision"] = "float64" if args.precision == "float64" else "float32"
    dtype = args.dtype or ("float32" if args.precision in NARROW else args.precision)  # 16 bits are widened on the way
    params: Params = source.load(args.FILE, given, dtype)
    if args.precision in NARROW and params.dtype != np.float32:
        raise ValueError(f"--precision: expected none that is narrow with --dtype {args.dtype}, got {args.precision}")
    return params


def _to(params: Params, precision: str | None) -> Params:
    return params if precision is None else params.to(cast("Precision", precision))


def _wide(params: Params) -> Params:
    """The layer with floats, for programs that take no others."""
    return _to(params, "float32" if params.precision in NARROW else None)


def _described(params: Params) -> dict[str, Any]:
    held, parts = params.weights, params._names.values()
    return {
        "cell": params._cell.name,
        "input_size": params.input_size,
        "hidden_size": params.hidden_size,
        "proj_size": params.proj_size,
        "num_layers": params.num_layers,
        "direction": params.direction,
        "weights": [plain for plain in params._cell.weights if any(plain in part for part in parts)]
        + [EMBEDDING] * (EMBEDDING in held),
        "vocabulary": params._vocabulary,
        "options": params._shown_options(),
        "dtype": params.dtype.name,
        "precision": params.precision,
        "parameters": sum(array.size for array in split_scales(held)[0].values()),
        "bytes": sum(array.nbytes for array in held.values()),
    }


def _described_with_outliers(params: Params) -> dict[str, Any]:
    return {**_described(params), "outliers": [row._asdict() for row in outliers(params.weights)]}


def _one_line(layer: dict[str, Any]) -> str:
    sizes = (
        f"V={layer['vocabulary']} " * bool(layer["vocabulary"]) + f"I={layer['input_size']} H={layer['hidden_size']}"
    )
    sizes += f" P={layer['proj_size']}" * bool(layer["proj_size"])
    options = "".join(f" {name}={value!r}" for name, value in layer["options"].items())
    count = "1 layer" if layer["num_layers"] == 1 else f"{layer['num_layers']} layers"
    size = f"{layer['parameters']} parameters, {layer['bytes']} bytes ({', '.join(layer['weights'])})"
    told = f"{layer['cell']} {sizes}, {count}, {layer['direction']}, {layer['precision']}, {size}{options}"
    rows = [Outlier(**row) for row in layer.get("outliers", [])]
    if not rows:
        return told
    more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{told}; WARNING: int8 serves rows with an outlier badly: {rows[0]}{more}"


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


@contextmanager
def _progress(total: int, what: str) -> Iterator[Callable[[], object]]:
    """A bar of work that takes more than a second, on the standard error, where that is a terminal and has tqdm."""
    if sys.stderr is None or not sys.stderr.isatty() or not find_spec("tqdm"):
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, leave=False, delay=1) as bar:
        yield bar.update


# Commands. Each takes its arguments and returns its exit code.


def _info(args: argparse.Namespace) -> int:
    target, threads = resolve_target(None), get_num_threads()  # first, since the environment may be wrong
    checks = [
        {"cell": cell, "precision": precision, "target": target, **_peers.self_check(cell, precision, target)}
        for cell in CELLS
        for precision in _peers.TOLERANCE
        for target in _peers.targets_of(precision)
    ]
    passed = all(check["ok"] for check in checks)
    if args.json:
        about: dict[str, Any] = {
            "version": __version__,
            "target": target,
            "targets": list(usable_targets()),
        }
        about |= {"build": [name for name, _, _ in _core.TARGETS], "compiler": _core.COMPILER}
        about |= {"threads": threads, "numpy": np.__version__}
        _print_json({**about, "checks": checks, "ok": passed})
        return int(not passed)
    show_config()
    for check in checks:
        if not check["ok"]:
            said = f"{check['difference']} from the reference, same bits: {check['same_bits']}"
            print(f"FAILED {check['cell']} {check['precision']} {check['target']}: {said}")
    print(f"self-check: {sum(check['ok'] for check in checks)} of {len(checks)} passed")
    return int(not passed)


def _inspect(args: argparse.Namespace) -> int:
    """1 where no layer of a file could be read; 2 where a file could not be, after the others."""
    status, told = 0, list[dict[str, Any]]()
    for path in args.FILE:
        try:
            with _readable(path) as real:
                layers, remark = _layers(real)
        except _ERRORS as error:
            if len(args.FILE) == 1:
                raise
            complain(_said(error))
            status = 2
            continue
        status = max(status, int(all("error" in layer for layer in layers)))
        told.append({"file": path, "layers": layers})
        if not args.json:
            _print_layers(path, layers, remark, len(args.FILE) > 1)
    if args.json:
        _print_json(told[0] if len(args.FILE) == 1 else told)
    return status


def _layers(path: str) -> tuple[list[dict[str, Any]], str]:
    """What is known of each layer, and a remark on a file without any."""
    found: list[dict[str, Any]] = []
    source = recognise(path)
    for name, load in source.find(path).items():
        try:
            found.append({"name": name, **_described_with_outliers(load())})
        except (TypeError, ValueError) as error:
            found.append({"name": name, "error": str(error)})
    return found, "" if found else source.remark(path)


def _print_layers(path: str, layers: list[dict[str, Any]], remark: str, many: bool) -> None:
    """A line a layer, wrapped where the output is a terminal; for several files with the file's name in front."""
    before = f"{line(path)}: " if many else ""
    if not layers:
        print(_wrapped(line(f"{path}: no recurrent layers{'; ' * bool(remark)}{remark}")))
    for layer in layers:
        text = f"{before}{_check.shown(layer['name'])}: {line(layer.get('error') or _one_line(layer))}"
        print(_wrapped(text))


def _wrapped(text: str) -> str:
    if sys.stdout is None or not sys.stdout.isatty():
        return text  # so that programs find a layer on each line
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, max(width, 20), subsequent_indent="    ", break_on_hyphens=False)


def _convert(args: argparse.Namespace) -> int:
    given = _open_layer(args, recognise(args.FILE))
    params = _to(given, args.precision)
    params.save(args.DST)
    layer = _described(params)
    if params.precision in OF_BYTES:
        layer["outliers"] = _described_with_outliers(given)["outliers"]
    if args.json:
        _print_json({"file": args.given, "dst": args.DST, "layer": layer})
    else:
        print(_wrapped(f"{line(args.DST)}: {_one_line(layer)}"))
    return 0


def _input(args: argparse.Namespace, source: Source) -> tuple[Params, Any]:
    """The layer of a file, and its input: random, or that of another file."""
    params = _open_layer(args, source)
    given = getattr(args, "input", None)
    if given is not None:
        x = read_input(given, params.input_size)
        args.steps, args.batch, _ = x.shape
    size = (args.steps, args.batch, params.input_size)
    numbers = args.steps * args.batch * (params.input_size + len(params._cell.gates) * params.hidden_size)
    if numbers > _MOST_NUMBERS:
        got = f"--steps {args.steps} and --batch {args.batch}, which take {numbers}"
        raise ValueError(f"--steps, --batch: expected at most {_MOST_NUMBERS} inputs and gates in all, got {got}")
    if given is None:
        x = np.random.default_rng(args.seed).normal(size=size)
    return params, x.astype(params.dtype)


def _peer(args: argparse.Namespace, source: Source, against: str, params: Params, x: Any) -> _peers.Peer:
    """Another program that runs the layer on the input."""
    if against not in source.peers:
        expected = _check.either(sorted(source.peers, reverse=True))
        raise ValueError(f"--against: expected {expected}, since this is not an .onnx file, got {against}")
    if against == "reference":
        return _peers.exact(params, x)
    if against == "torch":
        tensors = source.tensors(args.FILE, args.prefix or "") if source.tensors else None
        return _peers.torch(params, x, tensors)
    return _peers.onnxruntime(args.FILE, args.node, x, args.threads)


def _check_layer(args: argparse.Namespace) -> int:
    source = recognise(args.FILE)
    against = args.against or source.peers[0]
    params, x = _input(args, source)
    if args.precision in NARROW or params.precision in NARROW:
        return _check_narrow(args, params, x)
    try:
        with _peers.running(args.threads):
            peers = [_peers.ours(params, x, args.threads), _peer(args, source, against, params, x)]
            results = [_peers.results(peer) for peer in peers]
    except _peers.RefusedError as error:
        raise ValueError(f"{error}; --against reference has no such limits") from None
    exact = results[1] if against == "reference" else _peers.results(_peers.exact(params, x))
    with _progress(2 * args.steps * params.num_layers * (1 + params.bidirectional), "rounding") as done:
        limits = _rounding.bounds(params, x, exact, done)
    verdicts = [_rounding.judge(result, exact, limits) for result in results[: 1 if against == "reference" else 2]]
    difference = _peers.difference(*results)
    passed = all(verdict.right for verdict in verdicts)
    if args.tolerance is not None:
        passed = difference <= args.tolerance
    told = _rounding.told_steps(exact, limits)
    if args.json:
        names = ("fastrnn", "peer")
        distances = {f"{name}_distance": _peers.number(v.distance) for name, v in zip(names, verdicts)}
        shares = {f"{name}_share": _peers.number(v.share) for name, v in zip(names, verdicts)}
        said = {"file": args.given, "against": against, "difference": _peers.number(difference), **distances, **shares}
        said |= {"told_steps": told, "tolerance": args.tolerance, "ok": passed}
        _print_json({**said, "layer": _described(params)})
        return int(not passed)
    for peer, verdict in zip(peers, verdicts):
        print(f"{peer.title}: {'' if verdict.right else 'BEYOND: '}{verdict}")
    if told < args.steps:
        print(f"of {args.steps} steps {told} tell layers apart: at the others rounding alone may change 1 % or more")
    limit = "" if args.tolerance is None else f", {'within' if passed else 'BEYOND'} --tolerance {args.tolerance:g}"
    word = "passed" if passed else "FAILED"
    print(f"{word}: {peers[0].title} and {peers[1].title} differ by {difference:.3g}{limit}")
    return int(not passed)


def _check_narrow(args: argparse.Namespace, params: Params, x: Any) -> int:
    """A layer with narrow weights beside the same one with floats."""
    wide, narrow = _wide(params), _to(params, args.precision)
    if args.against:
        why = f"since weights are {narrow.precision}, which are compared with float32"
        raise ValueError(f"--against: expected none, {why}, got {args.against}")
    pair = [_peers.results(_peers.ours(some, x, args.threads)) for some in (narrow, wide)]
    names = ("y", *(f"{state}_n" for state in params._cell.states))
    found = {name: nearness(*both) for name, both in zip(names, zip(*pair, strict=True), strict=True)}
    limit = math.inf if args.tolerance is None else args.tolerance
    passed = all(near.rms <= limit for near in found.values())  # not so where it is NaN
    if args.json:
        errors = {
            name: {key: _peers.number(value) for key, value in near._asdict().items()} for name, near in found.items()
        }
        said = {"file": args.given, "against": "float32", "errors": errors, "tolerance": args.tolerance, "ok": passed}
        _print_json({**said, "layer": _described(narrow)})
        return int(not passed)
    for name, near in found.items():
        print(
            f"{name}: {narrow.precision} is off by {near.rms:.3g} rms, {near.largest:.3g} at most, relative to its rms"
        )
    if args.tolerance is not None or not passed:
        verdict, where = ("passed", "within") if passed else ("FAILED", "BEYOND")
        print(f"{verdict}: {narrow.precision} and float32 differ by rms {where} {limit:g}")
    return int(not passed)


def _bench(args: argparse.Namespace) -> int:
    source = recognise(args.FILE)
    if args.stream:
        return _bench_stream(args, source)
    for flag in ("deadline", "every", "seconds"):
        if getattr(args, flag) is not None:
            raise ValueError(f"--{flag}: expected none without --stream")
    against = args.against or next(peer for peer in source.peers if peer in TIMED)
    given, x = _input(args, source)
    params = _to(given, args.precision)
    peers = [_peers.ours(params, x, args.threads), _peer(args, source, against, _wide(given), x)]
    with _peers.running(args.threads), _progress(args.rounds, "rounds") as done:
        here, there = _peers.medians(peers, args.rounds, done)
    if args.json:
        said = {
            "file": args.given,
            "against": against,
            "steps": args.steps,
            "batch": args.batch,
            "threads": args.threads,
        }
        _print_json(
            {**said, "fastrnn_us": here * 1e6, "peer_us": there * 1e6, "ratio": there / here}
            | {"layer": _described(params)}
        )
    else:
        print(f"T={args.steps} B={args.batch} threads={args.threads}: {_one_line(_described(params))}")
        print(f"{peers[0].title}: {here * 1e6:.4g} us a call")
        print(f"{peers[1].title}: {there * 1e6:.4g} us a call, {there / here:.2f} times as long")
    return 0


def _bench_stream(args: argparse.Namespace, source: Source) -> int:
    if args.against:
        raise ValueError("--against: expected none with --stream, which times fastrnn alone")
    if args.threads != 1:
        raise ValueError(f"--threads: expected 1 with --stream, whose steps run on one thread, got {args.threads}")
    given, x = _input(args, source)
    params = _to(given, args.precision)
    budget = 5.0 if args.seconds is None else args.seconds
    took = _streaming.latency(params, x, budget, args.every, args.deadline)
    names = {"p50": took.p50, "p99": took.p99, "p99.9": took.p999, "longest": took.longest}
    if args.json:
        said = {"file": args.given, "batch": args.batch, "steps": took.steps, "deadline_us": _us(args.deadline)}
        said |= {"every_us": _us(args.every), **{f"{name}_us": _us(value) for name, value in names.items()}}
        missed = None if args.deadline is None else took.missed
        _print_json({**said, "missed": missed, "layer": _described(params)})
        return 0
    pace = "back to back" if args.every is None else f"one every {_us(args.every):.6g} us"
    print(_wrapped(f"B={args.batch} {took.steps} steps {pace}: {_one_line(_described(params))}"))
    print(", ".join(f"{name} {_us(value):.4g} us" for name, value in names.items()))
    if args.deadline is not None:
        share = f"{100 * took.missed / took.steps:.3g} %"
        print(f"{took.missed} of {took.steps} steps ({share}) missed the deadline of {_us(args.deadline):.6g} us")
    return 0


def _us(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e6


def _completion(args: argparse.Namespace) -> int:
    library = _check.package("shtab", "completion", "shtab")
    whole = _parser()
    for command in whole.commands.values():
        for action in command._actions:
            if action.dest in ("FILE", "DST"):
                action.complete = library.FILE
    print(library.complete(whole, shell=args.SHELL))
    return 0


_ERRORS = (OSError, MemoryError, TypeError, ValueError, RuntimeError, ImportError)


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)


_RUNS = {
    "info": _info,
    "inspect": _inspect,
    "convert": _convert,
    "check": _check_layer,
    "bench": _bench,
    "completion": _completion,
}


def _parser() -> Parser:
    return parser(_RUNS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; usage errors leave by SystemExit, as argparse's do.

    Examples
    --------
    >>> from fastrnn.cli import main
    >>> main(["inspect", "no such file.npz"])  # and one line on the standard error
    Traceback (most recent call last):
    SystemExit: 2
    """
    if hasattr(sys.stdout, "reconfigure"):  # names of nodes need not be in the encoding of a terminal
        sys.stdout.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(arguments)
    try:
        if isinstance(getattr(args, "FILE", None), str):
            args.given = args.FILE
            with _readable(args.FILE) as args.FILE:
                status: int = args.run(args)
        else:
            status = args.run(args)
        if sys.stdout is not None:  # None if closed
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 141
    except KeyboardInterrupt:
        return 130
    except _ERRORS as error:
        fail(_said(error))
    return status
