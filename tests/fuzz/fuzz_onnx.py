"""Coverage-guided fuzzing of fastrnn.from_onnx: ``run.sh SECONDS onnx`` runs it.

The bytes are a model's. It is loaded, or refused with a ValueError of one line, or an OSError where its weights are in
another file; nothing else may happen, within bounded memory and time. A model in memory and its file give the same
params, and so does a model of the node alone; params compute, and survive being saved and loaded. Half of the mutations
change a model's messages, fields and names, which stays a model: most blind ones do not.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import atheris
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from loaded import FOLDER, attempt, check_params, fastrnn, start, write

WEIGHTS = b"".join(bytes([0, 0, 0, n]) for n in range(256))  # of models whose weights are in another file


def loads(load: Callable[[], Any], path: str) -> Any:
    try:
        return attempt(load, path)
    except OSError as error:
        assert error.filename is not None
        return None


def test(data: bytes) -> None:
    path = write("model.onnx", data)
    params = loads(lambda: fastrnn.from_onnx(path), path)
    for load in (loads(lambda: fastrnn.onnx.load.loaders(path), path) or {}).values():
        layer = loads(load, "")  # which is past reading the file
        if layer is not None and params is None:  # one of several
            check_params(layer)
    if params is not None:
        check_params(params)
        assert fastrnn.from_onnx(fastrnn.onnx.load.one_node_model(path)) == params
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, UnicodeDecodeError):
        assert params is None
        return
    again = loads(lambda: fastrnn.from_onnx(model), "")
    if again is not None:
        assert again == params


# Mutations that know what a model is.

NAMES = [
    "W",
    "R",
    "B",
    "P",
    "X",
    "Y",
    "h",
    "c",
    "",
    "layer",
    "own",
    "ai.onnx",
    "value",
    "LSTM",
    "GRU",
    "RNN",
    "Identity",
]
NAMES += ["Constant", "If", "body", "then_branch", "hidden_size", "direction", "layout", "clip", "input_forget"]
NAMES += ["linear_before_reset", "activations", "activation_alpha", "activation_beta", "location", "offset", "length"]
NAMES += ["weights", "../weights", ".", "/etc/passwd", "n" * 1000, "a\nb", "Custom.LSTM", "a\nLSTM", "n" * 1000 + "GRU"]
NAMES += ["Slice", "Concat", "Split", "Unsqueeze", "Squeeze", "Transpose", "Reshape", "Flatten", "Gather", "Expand"]
NAMES += ["Tile", "Shape", "Size", "ConstantOfShape", "Cast", "CastLike", "Neg", "Add", "Sub", "Mul", "Div", "ReduceL2"]
NAMES += ["Equal", "Where", "DequantizeLinear", "axis", "axes", "perm", "to", "starts", "ends", "split", "num_outputs"]
WORDS = [b"forward", b"reverse", b"bidirectional", b"Tanh", b"sigmoid", b"Relu", b"Softsign", b"HardSigmoid", b"Affine"]
WORDS += [b"ScaledTanh", b"LeakyRelu", b"Elu", b"\xff\xfe", b"", b"\0" * 48, b"\x7f" * 192]
INTEGERS = [0, 1, 2, 3, 4, 6, 7, 8, 11, 14, 16, 22, 64, 255, 10000, 2**31 - 1, 2**62, 2**63 - 1, -1, -4, -(2**31)]
FLOATS = [0.0, 1.0, -1.0, 0.2, 0.5, 3.0, 1e-38, 1e-42, 3e38, float("inf"), float("nan")]
KINDS = {
    FieldDescriptor.CPPTYPE_FLOAT: FLOATS,
    FieldDescriptor.CPPTYPE_DOUBLE: FLOATS,
    FieldDescriptor.CPPTYPE_INT32: [n for n in INTEGERS if -(2**31) <= n < 2**31],
    FieldDescriptor.CPPTYPE_INT64: INTEGERS,
    FieldDescriptor.CPPTYPE_UINT64: [n for n in INTEGERS if n >= 0],
    FieldDescriptor.CPPTYPE_ENUM: [0, 1, 2, 3, 4, 7, 10, 11, 16, 99],
}


def messages(message: Any) -> Iterator[Any]:
    """A message, and all within it."""
    left = [message]
    while left:
        message = left.pop()
        yield message
        for field, value in message.ListFields():
            if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                left += value if is_list(value) else [value]


def is_list(value: Any) -> bool:
    """Whether it is what a repeated field holds."""
    return hasattr(value, "extend")


def some_name(draw: random.Random, everything: list[Any]) -> str:
    """One of those above, or one of the model's own: so names meet, in loops too."""
    message = draw.choice(everything)
    values = [value for field, value in message.ListFields() if field.type == FieldDescriptor.TYPE_STRING]
    own = [name for value in values for name in (value if is_list(value) else [value])]
    return str(draw.choice(own)) if own and draw.randrange(2) else draw.choice(NAMES)


def some_value(draw: random.Random, field: Any, old: Any, everything: list[Any]) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw.choice([*WORDS, atheris.Mutate(old or b"", len(old or b"") + 16), (old or b"")[:-4]])
    if field.type == FieldDescriptor.TYPE_STRING:
        return some_name(draw, everything)
    return draw.choice(KINDS.get(field.cpp_type, [0, 1]))


def copy_of_some(draw: random.Random, kind: Any, everything: list[Any]) -> Any:
    """A message of this kind from anywhere in the model, on its own: it may lie around or within what it replaces."""
    copy, alike = kind._concrete_class(), [one for one in everything if one.DESCRIPTOR is kind]
    if alike:
        copy.CopyFrom(draw.choice(alike))
    return copy


def change_list(draw: random.Random, field: Any, items: Any, everything: list[Any]) -> None:
    """One element of a repeated field: left out, moved, doubled, changed or new."""
    kind, place = draw.randrange(5), draw.randrange(len(items)) if items else 0
    if kind == 0 and items:
        del items[place]
    elif kind == 1 and items:
        kept = [*items]
        draw.shuffle(kept)
        del items[:]
        items.extend(kept)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        copy = copy_of_some(draw, field.message_type, everything)
        (items[place] if kind == 2 and items else items.add()).CopyFrom(copy)
    elif kind < 4 and items:
        items[place] = some_value(draw, field, items[place], everything)
    else:
        items.append(some_value(draw, field, items[place] if items else None, everything))


def change(draw: random.Random, model: Any) -> None:
    """One field of one message."""
    everything = [*messages(model)]
    message = draw.choice(everything)
    present = [field for field, _ in message.ListFields()]
    absent = [field for field in message.DESCRIPTOR.fields if field not in present]
    field = draw.choice(present if present and (draw.randrange(4) or not absent) else absent)
    value = getattr(message, field.name)
    if is_list(value):
        change_list(draw, field, value, everything)
    elif not draw.randrange(4):
        message.ClearField(field.name)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        value.CopyFrom(copy_of_some(draw, field.message_type, everything))
    else:
        setattr(message, field.name, some_value(draw, field, value, everything))


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    draw = random.Random(seed)
    if draw.randrange(2):
        try:
            model = onnx.ModelProto.FromString(data)
            for _ in range(draw.choice([1, 1, 2, 4])):
                change(draw, model)
            changed = model.SerializeToString()
        except (DecodeError, UnicodeDecodeError, ValueError):  # it was no model before
            return atheris.Mutate(data, max_size)
        if len(changed) <= max_size:
            return bytes(changed)
    return atheris.Mutate(data, max_size)


if __name__ == "__main__":
    with open(os.path.join(FOLDER, "weights"), "wb") as file:
        file.write(WEIGHTS)
    start(test, mutate)
