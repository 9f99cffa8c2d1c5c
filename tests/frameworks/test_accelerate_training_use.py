"""Accelerated layers in training as it is done: checkpoints, compilers, workers, processes, hooks of what is saved."""

from __future__ import annotations

import contextlib
import copy
import gc
import resource
import threading
from typing import Any

import pytest

from support.apart import run_python
from support.environment import package

torch = package("torch")

from torch import nn
from torch.utils.checkpoint import checkpoint

from fastrnn.torch import accelerate, restore, training
from support.torch_models import accelerated, counting, gradients, near, without_pytorch

F64 = torch.float64


def model_and_input() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return nn.LSTM(3, 4, 2, dropout=0.5, dtype=F64), torch.randn(5, 2, 3, dtype=F64)


class Checkpointed(nn.Module):
    """Two layers, of which nothing is kept for the way back."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.a, self.b, self.options = nn.GRU(3, 4, 2, dropout=0.5, dtype=F64), nn.LSTM(4, 4, dtype=F64), options

    def forward(self, x: Any, state: Any = None) -> Any:
        y, _ = checkpoint(self.a, x, **self.options) if self.options else self.a(x)
        y, _ = checkpoint(self.b, y, **self.options) if self.options else self.b(y)
        return y


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(reentrant: bool) -> None:
    torch.manual_seed(0)
    plain, x = Checkpointed(), torch.randn(5, 2, 3, dtype=F64)
    ours = accelerated(plain)
    ours.options = {"use_reentrant": reentrant}
    with without_pytorch(2 * 3):
        found = gradients(ours, x)
    near(found, gradients(plain, x))


def test_checkpoints_keep_no_tape() -> None:
    """Neither way: what PyTorch does not save, fastrnn does not keep."""
    ours, before = accelerated(Checkpointed()), len(training._PULLBACKS)
    x = torch.randn(5, 2, 3, dtype=F64, requires_grad=True)
    for reentrant in (False, True):
        ours.options = {"use_reentrant": reentrant}
        y = ours(x)
        gc.collect()
        assert len(training._PULLBACKS) == before
        y.sum().backward()
        assert len(training._PULLBACKS) == before
    ours.options = {}
    y = ours(x)
    assert len(training._PULLBACKS) == before + 3


def test_saved_tensors_that_are_moved() -> None:
    """The tape goes with what is moved elsewhere: PyTorch's layer gives the same gradients."""
    plain, x = model_and_input()
    ours = accelerated(plain)
    with torch.autograd.graph.save_on_cpu(), counting() as calls:
        found = gradients(ours, x)
    assert len(calls) == 2
    near(found, gradients(plain, x))


def test_restored_before_the_way_back() -> None:
    """The tape stays, and PyTorch's layer is found where it is gone, or where the gradient has a gradient."""
    plain, x = model_and_input()
    plain.dropout = 0.0

    def found(module: Any, moved: bool, twice: bool, restored: bool) -> list[Any]:
        given = x.clone().requires_grad_()
        with torch.autograd.graph.save_on_cpu() if moved else contextlib.nullcontext():
            y, (h, _) = module(given)
        if restored:
            restore(module)
        (dx,) = torch.autograd.grad(y.square().sum() + h.sum(), given, create_graph=twice)
        return [dx.detach(), *torch.autograd.grad(dx.square().sum(), [given, *module.parameters()])] if twice else [dx]

    for moved, twice in ((False, False), (True, False), (False, True)):
        near(found(accelerated(plain), moved, twice, True), found(plain, moved, twice, False))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_around(backend: str) -> None:
    """What stands around a layer is compiled, forth and back; the layer runs on fastrnn."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.layer, self.head = nn.Linear(3, 4), nn.GRU(4, 5, 2, dropout=0.5), nn.Linear(5, 2)

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.head(torch.relu(self.layer(torch.tanh(self.front(x)))[0]))

    torch.manual_seed(0)
    plain, x = Net().double(), torch.randn(5, 2, 3, dtype=F64)
    ours = torch.compile(accelerated(plain), backend=backend)
    with without_pytorch(4):
        for _ in range(2):
            found = gradients(ours, x)
    near(found, gradients(plain, x))
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # PyTorch looks at gradients of its own tensors
def test_compiled_autograd() -> None:
    """PyTorch compiles the way back around ours, and does not look into it."""
    plain, x = nn.LSTM(3, 4, dtype=F64), torch.randn(5, 2, 3, dtype=F64, requires_grad=True)
    ours = accelerated(plain)

    def step(module: Any) -> None:
        module(x)[0].square().sum().backward()

    with torch._dynamo.config.patch(compiled_autograd=True), without_pytorch(1):
        torch.compile(step, backend="eager")(ours)
    found, x.grad = [x.grad, *[p.grad for p in ours.parameters()]], None
    step(plain)
    near(found, [x.grad, *[p.grad for p in plain.parameters()]])
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own, for forward mode
def test_batched_gradients_and_transforms() -> None:
    """A Jacobian row by row and at once, and gradients of functions: PyTorch's layer runs where it must."""
    plain = nn.GRU(3, 2, dtype=F64)
    ours, x = accelerated(plain), torch.linspace(-1, 1, 6, dtype=F64).reshape(2, 1, 3)
    found = []
    for module in (ours, plain):
        weights = {name: p.detach() for name, p in module.named_parameters()}

        def loss(weights: Any, x: Any, module: Any = module) -> Any:
            return torch.func.functional_call(module, weights, (x,))[0].square().sum()

        found.append([
            torch.autograd.functional.jacobian(lambda x: module(x)[0], x),  # noqa: B023  (called at once)
            torch.autograd.functional.jacobian(lambda x: module(x)[0], x, vectorize=True),  # noqa: B023
            torch.autograd.functional.hessian(lambda x: module(x)[0].sum(), x),  # noqa: B023
            torch.func.grad(loss)(weights, x)["weight_hh_l0"],
            torch.func.jvp(lambda x: loss(weights, x), (x,), (x,))[1],  # noqa: B023
        ])  # fmt: skip
    near(*found)


def outcome(module: nn.LSTM, x: torch.Tensor) -> object:
    """Gradients, or PyTorch's error where it has no kernel for the processor."""
    module.zero_grad()
    try:
        module(x)[0].float().sum().backward()
    except RuntimeError as error:
        return str(error)
    return [p.grad.tolist() for p in module.parameters()]


def test_autocast_and_low_precision_are_pytorchs() -> None:
    plain, x = nn.LSTM(3, 4), torch.randn(5, 2, 3)
    ours = accelerated(plain)
    with counting() as calls:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert outcome(ours, x) == outcome(plain, x)
        lower = x.bfloat16()
        assert outcome(ours.bfloat16(), lower) == outcome(plain.bfloat16(), lower)
    assert not calls


def test_the_report_says_what_trains() -> None:
    model = nn.ModuleDict({"a": nn.LSTM(3, 4), "b": nn.GRU(3, 4).bfloat16(), "c": nn.RNNCell(3, 4, device="meta")})
    report = accelerate(model)
    assert (report.replaced, report.trained) == (("a", "b", "c"), ("a",))
    assert str(report) == "a: replaced\nb: replaced\nc: replaced\ntrained on fastrnn: a"


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled", "ignore:Error detected in")
def test_anomaly_mode() -> None:
    ours, x = accelerated(nn.LSTM(3, 4)), torch.full((5, 2, 3), torch.nan)
    with torch.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="'DifferentiableBackward' returned nan"):
        ours(x)[0].sum().backward()


def test_threads_that_train_one_model() -> None:
    """As Hogwild does: each with its own calls, all gradients added up."""
    plain, x = nn.GRU(3, 8, 2, dtype=F64), torch.randn(5, 2, 3, dtype=F64)
    ours, found = accelerated(plain), []
    (expected,) = torch.autograd.grad(plain(x)[0].sum(), plain.weight_hh_l1)

    def work() -> None:
        for _ in range(20):
            found.extend(torch.autograd.grad(ours(x)[0].sum(), ours.weight_hh_l1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    near(found, [expected] * 80)


@pytest.mark.parametrize("optimiser", ["SGD", "AdamW", "LBFGS"])
def test_training_goes_the_same_way(optimiser: str) -> None:
    """Losses of some steps, with a model that is accelerated, and restored on the way."""
    torch.manual_seed(0)
    plain = nn.ModuleList([nn.LSTM(3, 8, 2, dropout=0.1, batch_first=True), nn.Linear(8, 1)]).double()
    x, target = torch.randn(6, 10, 3, dtype=F64), torch.randn(6, 10, 1, dtype=F64)
    ours, found = copy.deepcopy(plain), []
    for model in (ours, plain):
        losses: list[float] = []
        method = getattr(torch.optim, optimiser)(model.parameters(), lr=0.01)

        def closure(model: Any = model, method: Any = method, losses: Any = losses) -> Any:
            method.zero_grad()
            loss = nn.functional.mse_loss(model[1](model[0](x)[0]), target)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            losses.append(float(loss.detach()))
            return loss

        torch.manual_seed(1)
        for step in range(6):
            if model is ours and step in (1, 4):
                (accelerate if step == 1 else restore)(model)
            method.step(closure)
        found.append([torch.tensor(losses)])
    near(*found)


def test_memory_stays_flat() -> None:
    model = accelerated(nn.LSTM(16, 32, 2, dropout=0.1))
    optimiser, x = torch.optim.SGD(model.parameters(), lr=1e-3), torch.randn(20, 8, 16)
    peaks = []
    for _ in range(2):
        for _ in range(150):
            optimiser.zero_grad()
            model(x)[0].sum().backward()
            optimiser.step()
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[1] - peaks[0] <= 2048  # KiB


LOADER = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from fastrnn.torch import accelerate

front = nn.GRU(3, 3)
accelerate(front)
with torch.no_grad():
    front(torch.zeros(2, 3))  # so that workers are forked off a process whose threads have run

class Sequences(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, number):  # a layer that runs in the worker
        with torch.no_grad():
            return front(torch.full((5, 3), float(number)))[0]

def main():
    model = nn.LSTM(3, 4)
    accelerate(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        for x in DataLoader(Sequences(), batch_size=2, num_workers=2, multiprocessing_context={context!r}):
            optimiser.zero_grad()
            loss = model(x)[0].square().sum()
            loss.backward()
            optimiser.step()
        print(epoch, bool(loss > 0))

if __name__ == "__main__":
    main()
"""


def test_workers_that_load_data() -> None:
    done = run_python(LOADER.replace("{context!r}", "'fork'"))
    assert (done.returncode, done.stdout) == (0, "0 True\n1 True\n"), done.stderr


DISTRIBUTED = """
import copy, os, sys, torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from fastrnn.torch import accelerate, training

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.LSTM(3, 4, 2, dtype=torch.float64), nn.Linear(4, 1, dtype=torch.float64)
    def forward(self, x):
        return self.head(self.layer(x)[0])

def work(rank, path):
    distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain, x = Net(), torch.randn(5, 4, 3, dtype=torch.float64)
    ours = copy.deepcopy(plain)
    accelerate(ours)
    training._by_pytorch = None
    ours = DistributedDataParallel(ours)
    optimisers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (plain, ours)]
    for step in range(3):
        for model, optimiser, rows in ((plain, optimisers[0], x), (ours, optimisers[1], x[:, 2 * rank : 2 * rank + 2])):
            optimiser.zero_grad()
            model(rows).square().mean().backward()
            optimiser.step()
    for a, b in zip(ours.parameters(), plain.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    print("done", flush=True)
    os._exit(0)  # without PyTorch's own end of a process of a group, which was seen to hang once

def main(path):
    processes = [multiprocessing.get_context("fork").Process(target=work, args=(rank, path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(any(process.exitcode for process in processes))

main(PATH)
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed")
def test_distributed_data_parallel(tmp_path: Any) -> None:
    """Two processes, each with half of the batch, against one with all of it."""
    done = run_python(DISTRIBUTED.replace("PATH", repr(str(tmp_path / "store"))))
    assert (done.returncode, done.stdout.count("done")) == (0, 2), done.stderr
