"""PyTorch in training: a module, or a loop over cells, and `torch.autograd.grad` with what it is a gradient of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.cases import Array
from bench.peers.peer import Call
from bench.peers.torch import CELLS, WITHOUT_ONEDNN, TorchLibrary
from bench.training.cases import TrainingCase, TrainingData, as_argument


class TorchStep(TorchLibrary):
    """With the memory allocator as it is by default."""

    def forms(self, case: TrainingCase) -> list[str]:
        return [CELLS] if case.cells else self.forms_of_module(case)

    def build(self, case: TrainingCase, data: TrainingData, form: str) -> Call:
        torch = self.torch
        torch.backends.mkldnn.set_flags(form != WITHOUT_ONEDNN)
        x = torch.from_numpy(data.x).requires_grad_()
        weights = {name: torch.from_numpy(array) for name, array in data.weights.items()}
        state = {name: torch.from_numpy(array).requires_grad_() for name, array in data.state.items()}
        if form == CELLS:
            cells = self.cells(case, weights)
            forward, parameters = self.loop(case, cells), parameters_of_cells(cells)
        else:
            module = self.module(case, weights)
            forward = self.packed(case, module) if case.ragged else lambda x, state: module(x, state)[0]
            parameters = dict(module.named_parameters())
        for parameter in parameters.values():
            parameter.requires_grad_(not case.frozen)
        return self.step(case, forward, {"x": x, **parameters, **state}, as_argument(state), data.dy)

    def step(
        self, case: TrainingCase, forward: Callable[..., Any], tensors: dict[str, Any], state: Any, dy: Array
    ) -> Call:
        names = case.wanted(name for name in tensors if name not in ("x", "h", "c"))
        wanted, gradient, grad = [tensors[name] for name in names], self.torch.from_numpy(dy), self.torch.autograd.grad
        x = tensors["x"]
        return lambda: dict(zip(names, grad(forward(x, state), wanted, gradient), strict=True))

    def loop(self, case: TrainingCase, cells: list[Any]) -> Callable[..., Any]:
        """Steps one by one, and in each of them the layers, as models are written that need every state."""
        lstm, stack = case.function == "lstm", self.torch.stack

        def run(x: Any, state: Any) -> Any:
            states = [None] * case.L if state is None else list(zip(*state) if lstm else state)
            outputs = []
            for y in x.unbind(0):
                for layer, cell in enumerate(cells):
                    states[layer] = state = cell(y, states[layer])
                    y = state[0] if lstm else state
                outputs.append(y)
            return stack(outputs)

        return run

    def gradients(self, case: TrainingCase, result: Any) -> dict[str, Array]:
        return {name: gradient.numpy() for name, gradient in result.items()}


class TorchStepKeepingPages(TorchStep):
    """The same in a process whose allocator keeps the pages of freed memory, by variables of bench/training/run.py."""

    title = "PyTorch, pages kept"


def parameters_of_cells(cells: list[Any]) -> dict[str, Any]:
    """By the names that a module of the same stack has for them."""
    return {f"{name}_l{layer}": p for layer, cell in enumerate(cells) for name, p in cell.named_parameters()}
