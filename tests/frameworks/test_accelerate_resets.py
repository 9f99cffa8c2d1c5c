"""`fastrnn.torch.run`: accelerated layers with resets and lengths, beside loops in PyTorch and the reference."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from support.environment import package

torch = package("torch")

from torch import nn

from fastrnn import reference
from fastrnn.torch.marks import Marks
from fastrnn.torch.steps import by_steps
from support.torch_models import accelerated, flat, gradients, layers, near, states_for, without_pytorch

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
some = settings(max_examples=max(settings.default.max_examples // 4, 1))


class Ours(nn.Module):
    """A layer that is accelerated, called with marks."""

    def __init__(self, layer: Any, marks: Marks) -> None:
        super().__init__()
        self.layer, self.marks = accelerated(layer), marks

    def forward(self, x: Any, state: Any = None) -> Any:
        return fastrnn.torch.run(self.layer, x, state, resets=self.marks.resets, lengths=self.marks.lengths)


class Steps(Ours):
    """The same by PyTorch, step by step, in float64."""

    def __init__(self, layer: Any, marks: Marks) -> None:
        nn.Module.__init__(self)
        self.layer, self.marks = copy.deepcopy(layer).double(), marks

    def forward(self, x: Any, state: Any = None) -> Any:
        y, states = by_steps(self.layer, x.double(), tuple(part.double() for part in flat(state)), self.marks)
        return y, states if len(states) > 1 else states[0]


class Loop(Steps):
    """What people write: one step at a time, and states times 0 where a sequence begins."""

    def forward(self, x: Any, state: Any = None) -> Any:
        assert not self.layer.bidirectional
        outputs = []
        for x_t, keep in zip(x.double(), 1 - self.marks.resets.double(), strict=True):
            if state is not None:
                states = tuple(part.double() * keep[:, None] for part in flat(state))
                state = states if len(states) > 1 else states[0]
            y, state = self.layer(x_t[None], state)
            outputs.append(y)
        return torch.cat(outputs), state


@st.composite
def marked_calls(draw: st.DrawFn) -> tuple[Any, Any, Any, Marks]:
    """A layer without dropout, x with a batch or without one, a state, and marks."""
    layer = draw(layers())
    layer.dropout = 0.0
    T, B, dtype = draw(st.integers(1, 7)), draw(st.integers(1, 5)), layer.weight_ih_l0.dtype
    batch = draw(st.sampled_from([(), (B,), (B,)]))
    steps = (*batch, T) if layer.batch_first else (T, *batch)
    resets = torch.rand(steps) < draw(st.sampled_from([0.1, 0.5, 1.0])) if draw(st.booleans()) else None
    lengths = torch.randint(0, T + 1, batch) if batch and (resets is None or draw(st.booleans())) else None
    x = torch.randn(*steps, layer.input_size, dtype=dtype)
    return layer, x, states_for(draw, layer, *batch), Marks(resets, lengths)


@some
@given(call=marked_calls())
def test_by_steps_is_the_reference(call: tuple[Any, Any, Any, Marks]) -> None:
    layer, x, state, marks = call
    kind = type(layer).__name__.lower()
    options = {"activation": layer.nonlinearity} if kind == "rnn" else {}
    weights = {name: parameter.detach().double().numpy() for name, parameter in layer.named_parameters()}
    initial = tuple(part.double().numpy() for part in flat(state)) or None
    expected = getattr(reference, kind)(
        x.double().numpy(),
        weights,
        initial if initial is None or kind == "lstm" else initial[0],
        resets=None if marks.resets is None else marks.resets.numpy(),
        lengths=None if marks.lengths is None else marks.lengths.numpy(),
        batch_first=layer.batch_first,
        **options,
    )
    final = expected[1] if kind == "lstm" else (expected[1],)
    arrays = [torch.from_numpy(a.copy()) for a in (expected[0], *final)]
    near([a.detach() for a in flat(Steps(layer, marks)(x, state))], arrays)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_reset_past_a_rows_end_is_none(bidirectional: bool) -> None:
    layer, x, lengths = nn.LSTM(3, 4, bidirectional=bidirectional).double(), torch.randn(5, 2, 3).double(), [3, 5]
    state = tuple(torch.randn(1 + bidirectional, 2, 4).double() for _ in range(2))
    resets = torch.zeros(5, 2, dtype=torch.bool)
    resets[4, 0] = resets[3, 0] = True
    counts = torch.tensor(lengths)
    got, expected = (Steps(layer, Marks(each, counts))(x, state) for each in (resets, None))
    near([a.detach() for a in flat(got)], [a.detach() for a in flat(expected)])


@some
@given(call=marked_calls(), wanted=st.booleans(), training=st.booleans())
def test_layer(call: tuple[Any, Any, Any, Marks], wanted: bool, training: bool) -> None:
    """Results and all gradients are those of PyTorch's steps, and PyTorch runs for none."""
    layer, x, state, marks = call
    layer.train(training)
    with without_pytorch(1):
        ours = gradients(Ours(layer, marks), x, state, wanted=wanted)
    near(ours, gradients(Steps(layer, marks), x, state, wanted=wanted))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_loop_that_people_write(kind: str) -> None:
    torch.manual_seed(0)
    layer, x = getattr(nn, kind)(6, 20, 2), torch.randn(30, 4, 6)
    marks = Marks(torch.rand(30, 4) < 0.1, None)
    near(gradients(Ours(layer, marks), x), gradients(Loop(layer, marks), x))


def test_without_marks_it_is_the_layer() -> None:
    torch.manual_seed(0)
    layer, x = nn.GRU(6, 20, 2, bidirectional=True, batch_first=True), torch.randn(4, 30, 6)
    ours = Ours(layer, Marks(None, None))
    for a, b in zip(flat(ours(x)), flat(ours.layer(x)), strict=True):
        assert torch.equal(a, b)


def test_bits_are_those_of_the_functions() -> None:
    torch.manual_seed(0)
    layer, x = accelerated(nn.LSTM(6, 20, 2)), torch.randn(30, 4, 6)
    resets, lengths = torch.rand(30, 4) < 0.1, [30, 7, 0, 12]
    y, state = fastrnn.lstm(x.numpy(), fastrnn.from_torch(layer), resets=resets.numpy(), lengths=lengths)
    with torch.no_grad():
        ours = fastrnn.torch.run(layer, x, resets=resets, lengths=lengths)
    for a, b in zip(flat(ours), (y, *state), strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_between_layers(batch_first: bool) -> None:
    """The masks of PyTorch's random numbers, on fastrnn and by steps."""
    torch.manual_seed(0)
    layer = nn.LSTM(6, 20, 3, dropout=0.5, bidirectional=True, batch_first=batch_first).train()
    x = torch.randn(4, 9, 6)
    marks = Marks(torch.rand(4, 9) < 0.2, None)
    with without_pytorch(3):
        ours = gradients(Ours(layer.double(), marks), x.double())
    near(ours, gradients(Steps(layer, marks), x.double()))


def test_second_derivatives() -> None:
    """By PyTorch, which goes step by step with the resets of the call, whatever has become of them."""
    torch.manual_seed(0)
    layer, x = nn.GRU(3, 5, 2).double(), torch.randn(6, 2, 3).double()
    resets = torch.rand(6, 2) < 0.3

    def twice(module: Any, spoil: bool) -> list[Any]:
        given = x.clone().requires_grad_()
        y, _ = module(given)
        if spoil:
            module.marks.resets.logical_not_()
        (first,) = torch.autograd.grad(y.square().sum(), given, create_graph=True)
        return [first.detach(), *torch.autograd.grad(first.square().sum(), [given, *module.parameters()])]

    ours = twice(Ours(layer, Marks(resets.clone(), None)), True)
    near(ours, twice(Steps(layer, Marks(resets, None)), False))


def test_other_dtypes_go_step_by_step() -> None:
    torch.manual_seed(0)
    layer, x = nn.LSTM(3, 5).bfloat16(), torch.randn(6, 2, 3).bfloat16()
    marks = Marks(torch.rand(6, 2) < 0.3, torch.tensor([6, 4]))
    y, _ = fastrnn.torch.run(accelerated(layer), x, resets=marks.resets, lengths=marks.lengths)
    assert y.dtype == torch.bfloat16
    expected, _ = by_steps(layer, x, (), marks)
    assert torch.equal(y, expected)


def test_narrow_and_quantized_layers() -> None:
    torch.manual_seed(0)
    layer, x, resets = nn.LSTM(6, 20), torch.randn(9, 2, 6), torch.rand(9, 2) < 0.3
    narrow = copy.deepcopy(layer)
    fastrnn.torch.accelerate(narrow, precision="int8")
    params = fastrnn.from_torch(layer, precision="int8")
    expected, _ = fastrnn.lstm(x.numpy(), params, resets=resets.numpy())
    with torch.no_grad():
        np.testing.assert_array_equal(fastrnn.torch.run(narrow, x, resets=resets)[0].numpy(), expected)
    y, _ = fastrnn.torch.run(narrow, x, resets=resets)  # of which a gradient is wanted
    near([y.detach()], [Steps(layer, Marks(resets, None))(x)[0].detach()])


def test_wrong_states_have_pytorchs_errors() -> None:
    layer, resets = accelerated(nn.GRU(3, 5)), torch.zeros(4, 2, dtype=torch.bool)
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(1, 2, 5\), got \[1, 2, 6\]"):
        fastrnn.torch.run(layer, torch.zeros(4, 2, 3), torch.zeros(1, 2, 6), resets=resets)
    with pytest.raises(RuntimeError, match=r"input.size\(-1\) must be equal to input_size"):
        fastrnn.torch.run(layer, torch.zeros(4, 2, 7), resets=resets)


X, RESETS = torch.zeros(6, 4, 3), torch.zeros(6, 4, dtype=torch.bool)
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"resets": RESETS.float()},
        TypeError,
        "resets: expected torch.bool, got torch.float32; resets.bool() converts it",
    ),
    ({"resets": RESETS.numpy()}, TypeError, "resets: expected a torch.Tensor of bool, got ndarray; torch.from_numpy"),
    ({"resets": [True]}, TypeError, "resets: expected a torch.Tensor of bool, got list"),
    ({"resets": RESETS.T}, ValueError, "resets: expected (6, 4), which is (T, B), .* got (4, 6); resets.T has it"),
    ({"resets": RESETS.to("meta")}, ValueError, "resets: expected them on cpu, where x is, got meta"),
    ({"lengths": [7, 1, 1, 1]}, ValueError, "lengths: expected values from 0 to T=6, got 7 at row 0"),
    ({"lengths": torch.ones(4)}, TypeError, "lengths: expected integers, got float32"),
    ({"x": X.numpy()}, TypeError, "x: expected a torch.Tensor, got ndarray"),
    (
        {"x": nn.utils.rnn.pack_sequence([X[0]])},
        TypeError,
        "x: expected a torch.Tensor, got PackedSequence; pad_packed",
    ),
    ({"x": X[0, 0]}, ValueError, "x: expected 2 or 3 axes, got 1: (3,)"),
    (
        {"layer": nn.GRU(3, 5)},
        TypeError,
        "layer: expected an nn.RNN, LSTM or GRU that runs on fastrnn, got GRU; fas",
    ),
    (
        {"layer": accelerated(nn.GRUCell(3, 5))},
        TypeError,
        "layer: expected an nn.RNN, LSTM or GRU that runs on fastrnn",
    ),
    ({"layer": None}, TypeError, "layer: expected an nn.RNN, LSTM or GRU that runs on fastrnn, got NoneType"),
]


@pytest.mark.parametrize(("wrong", "error", "words"), WRONG)
def test_wrong_arguments(wrong: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"layer": accelerated(nn.GRU(3, 5)), "x": X, "resets": RESETS, **wrong}
    pattern = words.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(error, match=f"^{pattern}"):
        fastrnn.torch.run(**arguments)
