"""PyTorch: a module of `torch.nn`, or cells for a single step, under inference_mode, from tensor to tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.cases import Array, Case, Data
from bench.peers.peer import Call, Unable

MODULE, WITHOUT_ONEDNN, CELLS = "module", "module without oneDNN", "cells"


class TorchLibrary:
    """The library with its threads, and the modules of a case."""

    title = "PyTorch"

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        torch.set_flush_denormal(True)
        self.torch = torch

    def about(self) -> dict[str, str]:
        return {"version": str(self.torch.__version__)}

    def forms_of_module(self, case: Case) -> list[str]:
        if case.cell == "gru_before":
            raise Unable("has no GRU that resets before the product")
        has_onednn = case.cell == "lstm" and not (case.P or case.f64 or case.ragged)
        return [MODULE, WITHOUT_ONEDNN] if has_onednn else [MODULE]

    def module(self, case: Case, weights: dict[str, Any]) -> Any:
        options: dict[str, Any] = {"num_layers": case.L, "bidirectional": case.bi}
        if case.P:
            options["proj_size"] = case.P
        kind = getattr(self.torch.nn, case.cell.upper())
        module = kind(case.I, case.H, dtype=self.dtype(case), **options)
        module.load_state_dict(weights)
        return module

    def cells(self, case: Case, weights: dict[str, Any]) -> list[Any]:
        """A cell for each layer of a stack."""
        kind = getattr(self.torch.nn, case.cell.upper() + "Cell")
        cells = []
        for layer, inputs in enumerate(case.inputs):
            cell = kind(inputs, case.H, dtype=self.dtype(case))
            suffix = f"_l{layer}"
            cell.load_state_dict({k.removesuffix(suffix): w for k, w in weights.items() if k.endswith(suffix)})
            cells.append(cell)
        return cells

    def dtype(self, case: Case) -> Any:
        return getattr(self.torch, np.dtype(case.dtype).name)

    def packed(self, case: Case, module: Any) -> Callable[..., Any]:
        """A function of x, and a state, for rows of different lengths: they are packed, and y is padded again."""
        rnn, lengths, T = self.torch.nn.utils.rnn, self.torch.from_numpy(case.lengths), case.T

        def run_packed(x: Any, state: Any = None) -> Any:
            packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            return rnn.pad_packed_sequence(module(packed, state)[0], total_length=T)[0]

        return run_packed


class Torch(TorchLibrary):
    """Its LSTM goes through oneDNN, which reorders all weights at every call: for few steps it is faster without."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.mode = self.torch.inference_mode()
        self.mode.__enter__()  # for as long as the process lives

    def forms(self, case: Case) -> list[str]:
        forms = self.forms_of_module(case)
        if case.carries_state and not (case.P or case.bi):
            forms.append(CELLS)
        return forms

    def build(self, case: Case, data: Data, form: str) -> Call:
        self.torch.backends.mkldnn.set_flags(form != WITHOUT_ONEDNN)
        x, weights = self.torch.from_numpy(data.x), {k: self.torch.from_numpy(w) for k, w in data.weights.items()}
        if form == CELLS:
            return self.step_of_cells(case, x, weights)
        module = self.module(case, weights).eval()
        if case.ragged:
            run = self.packed(case, module)
            return lambda: run(x)
        return carrying(lambda state: module(x, state)) if case.carries_state else lambda: module(x)[0]

    def step_of_cells(self, case: Case, x: Any, weights: dict[str, Any]) -> Call:
        cells = [cell.eval() for cell in self.cells(case, weights)]
        states: list[Any] = [None] * case.L
        lstm, x_t = case.cell == "lstm", x[0]

        def step() -> Any:
            y = x_t
            for layer, cell in enumerate(cells):
                states[layer] = state = cell(y, states[layer])
                y = state[0] if lstm else state
            return y

        return step

    def outputs(self, case: Case, result: Any) -> Array:
        return np.array(result.numpy(), ndmin=3)


def carrying(function: Any) -> Call:
    """Calls of a function that takes a state and answers outputs and the next state; the first takes None."""
    state = None

    def step() -> Any:
        nonlocal state
        y, state = function(state)
        return y

    return step
