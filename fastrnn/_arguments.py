"""The arguments of the command `fastrnn`, and its errors: one line each."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from fastrnn import _check
from fastrnn._cells import CELLS, OPTIONS
from fastrnn._precision import FULL, NARROW
from fastrnn._sources import ENDINGS
from fastrnn.config import __version__

Run = Callable[[argparse.Namespace], int]
TIMED = ("onnxruntime", "torch")  # programs that `bench` compares a layer with
_OPPOSITES = {"reset_after": "reset-before"}
_ABOUT = {
    "input_forget": "an LSTM whose forget gate is 1 - i",
    "reset_after": "a GRU that resets before the recurrent product",
    "batch_first": "x is (B, T, I) in calls that do not say it",
}
_READ = f"what {', '.join(ENDINGS)} files hold, whatever its name; - is the standard input"
EXAMPLES = """examples:
  fastrnn info
  fastrnn inspect model.onnx
  fastrnn inspect *.pt
  fastrnn convert model.onnx lstm.safetensors --node /encoder/LSTM
  fastrnn convert weights.npz gru.npz --cell gru --prefix encoder. --reset-before
  fastrnn convert model.pt small.safetensors --prefix encoder. --precision int8
  fastrnn check model.onnx --node /encoder/LSTM
  fastrnn check model.onnx --node /encoder/LSTM --precision int8
  fastrnn bench model.pt --prefix encoder. --against torch --batch 8
  fastrnn bench model.pt --prefix encoder. --stream --deadline 10ms"""


def spelled(option: str) -> str:
    """The flag of an option; that of the opposite where the option is true by default."""
    name = option.replace("_", "-")
    return f"--{_OPPOSITES.get(option, f'no-{name}')}" if OPTIONS.get(option) is True else f"--{name}"


class Parser(argparse.ArgumentParser):
    """One line for an error, of the command that was called, as for all other errors."""

    commands: dict[str, Any]
    _given: list[str]

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **{**more, "allow_abbrev": False})  # an abbreviation may be ambiguous one day

    def error(self, message: str) -> NoReturn:
        fail(f"{message}{self._nearest(message)} (see {self.prog} --help)")

    def _nearest(self, message: str) -> str:
        """A command, choice or option that was meant. Python has `suggest_on_error` from 3.14, and not for options."""
        if message.endswith("required: COMMAND"):  # `fastrnn --versoin`
            message = f"unrecognized arguments: {' '.join(self._given)}"
        if "maybe you meant" in message:  # Python has said it
            return ""
        for pattern, words in (
            (
                r"invalid choice: '(.*?)' \(",
                [word for action in self._actions for word in map(str, action.choices or [])],
            ),
            (r"unrecognized arguments: .*?(--[\w-]+)", [*self._option_strings()]),
        ):
            if (got := re.search(pattern, message)) and (near := difflib.get_close_matches(got[1], words, 1)):
                return f"; did you mean {near[0]}?"
        return ""

    def _option_strings(self) -> Iterator[str]:
        for action in self._actions:
            yield from action.option_strings

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Unknown arguments are an error of the command that was called, not of `fastrnn`."""
        self._given = sys.argv[1:] if args is None else [*args]
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            getattr(known, "parser", self).error(f"unrecognized arguments: {' '.join(unknown)}")
        return known


def fail(message: str) -> NoReturn:
    complain(message)
    raise SystemExit(2)


def complain(message: str) -> None:
    if sys.stderr is not None:  # None if closed; print would then take the standard output
        print(f"fastrnn: error: {line(message)}", file=sys.stderr)


def line(text: str) -> str:
    """One line without control characters; bytes of a file's name that are no text are written as escapes."""
    whole = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return "".join(filter(str.isprintable, whole))


def _whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    def whole(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected an integer from {least} to {most}, got {text}")
        return number

    whole.__name__ = "integer"  # argparse calls the type so in its message
    return whole


def _duration(text: str) -> float:
    """Seconds of 10ms, 500us or 1.5s."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s)", text)
    seconds = float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[found[2]] if found else 0.0
    if not 0 < seconds <= 86400:
        said = f"expected a time above 0, of a day at most, such as 10ms, 500us or 1.5s, got {_check.shown(text)}"
        raise argparse.ArgumentTypeError(said)
    return seconds


def _activation(text: str) -> Any:
    """A name, or NAME,ALPHA,BETA."""
    name, *constants = text.split(",")
    try:
        return (name, *map(float, constants)) if constants else name
    except ValueError:
        said = f"expected NAME or NAME,ALPHA,BETA with two numbers, got {_check.shown(text)}"
        raise argparse.ArgumentTypeError(said) from None


def _tolerance(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number of at least 0, got {text}")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number <= 86400:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, of a day at most, got {text}")
    return number


_tolerance.__name__ = _seconds.__name__ = "number"


def _add_layer_flags(command: argparse.ArgumentParser) -> None:
    which = command.add_argument_group("which layer")
    which.add_argument("--node", metavar="NAME", help="of an .onnx file: the node's name, or that of an output of it")
    which.add_argument("--prefix", help="of other files: what stands before the names of the layer's weights")
    again = "of an .onnx file: round bytes anew that int8 does not hold as they are"
    which.add_argument("--requantize", action="store_true", default=None, help=again)
    what = command.add_argument_group("what it is, where a file does not say")
    what.add_argument("--cell", choices=tuple(CELLS))
    for name, value in OPTIONS.items():
        if name == "clip":
            what.add_argument("--clip", type=float, metavar="NUMBER", help="bounds what goes into the activations")
        elif isinstance(value, bool):
            action = "store_false" if value else "store_true"
            what.add_argument(spelled(name), dest=name, action=action, default=None, help=_ABOUT.get(name))
        else:
            what.add_argument(spelled(name), type=_activation, metavar="NAME[,ALPHA,BETA]")
    command.add_argument("--dtype", choices=FULL, help="what the layer computes in")
    command.add_argument("--precision", choices=(*FULL, *NARROW), help="of the matrices; float16 and int8 are narrow")


def _add_run_flags(command: argparse.ArgumentParser, peers: tuple[str, ...]) -> None:
    command.add_argument("--against", choices=peers, help="default: by the kind of file")
    for name, default in (("steps", 100), ("batch", 1), ("threads", 1)):
        whole = _whole(1, _check.MOST_THREADS) if name == "threads" else _whole(1)
        command.add_argument(f"--{name}", type=whole, default=default, metavar="N", help=f"default: {default}")
    command.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="of the random input; default: 0")


def parser(runs: Mapping[str, Run]) -> Parser:
    """Of functions that run each command, by its name."""
    raw = argparse.RawDescriptionHelpFormatter
    whole = Parser("fastrnn", description="RNN, LSTM and GRU layers on CPUs.", epilog=EXAMPLES, formatter_class=raw)
    whole.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, about: str, *positional: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
        for argument in positional:
            kinds = ".safetensors or .npz; replaced if there" if argument == "DST" else _READ
            count: dict[str, Any] = {"nargs": "+"} if name == "inspect" else {}
            command.add_argument("FILE" if argument == "SRC" else argument, metavar=argument, help=kinds, **count)
        command.set_defaults(run=runs[name], parser=command)
        return command

    add("info", "Version, targets and threads, and a self-check of every target.")
    add("inspect", "The recurrent layers in files.", "FILE")
    _add_layer_flags(add("convert", "Write a layer of a file to another file.", "SRC", "DST"))
    check = add("check", "Compare a layer's results with another program's, on random input.", "FILE")
    bench = add("bench", "Compare a layer's time with another program's.", "FILE")
    for command, peers in ((check, (*TIMED, "reference")), (bench, TIMED)):
        _add_layer_flags(command)
        _add_run_flags(command, peers)
    check.add_argument("--input", metavar="X.npy", help="in place of random input: (T, B, I) or (T, I), floats")
    check.add_argument("--tolerance", type=_tolerance, metavar="NUMBER", help="default: as docs/command_line.md says")
    bench.add_argument("--rounds", type=_whole(1), default=21, metavar="N", help="of timing; default: 21")
    stream = bench.add_argument_group("steps of a stream")
    stream.add_argument("--stream", action="store_true", help="time single steps of fastrnn.Stream: p50, p99, p99.9")
    stream.add_argument("--deadline", type=_duration, metavar="TIME", help="count steps that take longer, as 10ms")
    stream.add_argument("--every", type=_duration, metavar="TIME", help="of one input and the next; else back to back")
    stream.add_argument("--seconds", type=_seconds, metavar="N", help="to run for; default: 5")
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="print JSON")
    completion = add("completion", "A script by which a shell completes commands and options.")
    completion.add_argument("SHELL", choices=("bash", "zsh"))
    whole.commands = commands.choices
    return whole
