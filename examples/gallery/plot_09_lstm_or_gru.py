r"""
LSTM or GRU?
============

Both were made to remember for longer than an Elman layer can. An LSTM has three gates and a cell state c beside h; a
GRU has two gates, and h alone:

.. math::
   \text{LSTM:} \quad c_t &= f_t \odot c_{t-1} + i_t \odot g_t, & h_t &= o_t \odot \tanh(c_t)

   \text{GRU:} \quad h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot n_t

Which one should it be? This page counts their weights, takes their times, and lets both learn two tasks of the pages
before.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import shared
from shared import LAYERS, Model, squared_loss, uniform

import fastrnn

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"

# %%
# Weights
# -------
# Each gate, and what it lets through, has a W (H, I), a U (H, H) and a bias (H): four sets of them in an LSTM, three
# in a GRU. So a GRU has three quarters of the weights, and half of the state.


def layer(cell, I, H, rng):
    kind, G = LAYERS[cell]
    return kind(uniform(rng, H, weight_ih=(G * H, I), weight_hh=(G * H, H), bias_ih=G * H))


def count(params):
    return sum(w.size for w in params.weights.values())


I, H = 64, 128
rng = np.random.default_rng(0)
layers = {cell: layer(cell, I, H, rng) for cell in ("lstm", "gru")}
sizes = {cell: count(params) for cell, params in layers.items()}
for cell, size in sizes.items():
    print(f"{cell:5} {size} weights for I = {I} and H = {H}")
print(f"GRU / LSTM: {sizes['gru'] / sizes['lstm']}")

# %%
# Time
# ----
# One thread; a sequence of 50 steps alone, 16 of them side by side, and a step of training with these (there and
# back). Times of a busy machine vary. So we take turns, LSTM then GRU then LSTM again, and print the median of each.
# Where PyTorch is installed, its layers of the same sizes take their turns as well.


def medians(calls, turns=11):
    """Median times in milliseconds, by name, of functions that take turns."""
    times = {name: [] for name in calls}
    for turn in range(turns + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 2:  # the first ones warm up
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in times.items()}


def forward(params, x):
    return lambda: fastrnn.run(x, params, threads=1)


def both_ways(params, x):
    def call():
        (y, _), pullback = fastrnn.vjp(x, params, threads=1)
        pullback(y, wrt=["weights"])

    return call


one, many = (rng.normal(size=(50, B, I)).astype("float32") for B in (1, 16))
calls = {}
for cell, params in layers.items():
    calls[cell, "1 sequence"] = forward(params, one)
    calls[cell, "16 sequences"] = forward(params, many)
    calls[cell, "training, 16"] = both_ways(params, many)

try:
    import torch
except ImportError:
    torch = None
else:
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)

    def torch_forward(module, x):
        def call():
            with torch.no_grad():
                module(x)

        return call

    def torch_both_ways(module, x):
        def call():
            y = module(x)[0]
            torch.autograd.grad(y, list(module.parameters()), grad_outputs=y.detach())

        return call

    for cell, module in (("lstm", torch.nn.LSTM(I, H)), ("gru", torch.nn.GRU(I, H))):
        calls[f"PyTorch {cell}", "1 sequence"] = torch_forward(module, torch.from_numpy(one))
        calls[f"PyTorch {cell}", "16 sequences"] = torch_forward(module, torch.from_numpy(many))
        calls[f"PyTorch {cell}", "training, 16"] = torch_both_ways(module, torch.from_numpy(many))

times = medians(calls)
if torch is not None:
    torch.set_num_threads(threads_before)

works = ["1 sequence", "16 sequences", "training, 16"]
print(" " * 13, *(f"{work:>14}" for work in works))
for row in dict.fromkeys(name for name, _ in calls):
    print(f"{row:13}", *(f"{times[row, work]:11.2f} ms" for work in works))
ratios = {work: times["gru", work] / times["lstm", work] for work in works}
print(f"{'gru / lstm':13}", *(f"{ratios[work]:14.2f}" for work in works))

# %%
# Quality
# -------
# Two tasks: the waves of the page "Ways to use a layer" and the poem of the page "hello". Both layers have the same
# number of units; then a GRU has more units, so that it has as many weights as the LSTM. Each learns three times,
# from different first weights. The poem is learnt by heart: the loss says how fast, not how well another poem would
# be known.

STEPS = {"waves": 300, "poem": 150}


def waves(rng, T=24, B=16):
    """A height and a speed go in; a wave of that height and speed is to come out."""
    height, speed = rng.uniform(0.3, 1, B), rng.uniform(0.2, 0.8, B)
    x = np.zeros((T, B, 2), "float32")
    x[0, :, 0], x[0, :, 1] = height, speed
    return x, (height * np.sin(speed * np.arange(T)[:, np.newaxis]))[..., np.newaxis].astype("float32")


def learn_waves(cell, H, seed):
    """The mean squared errors, step by step."""
    rng = np.random.default_rng(seed)
    model, losses = Model(cell, I=2, H=H, O=1, rng=rng), []
    for step in range(STEPS["waves"]):
        model.adam.rate = 0.02 * (1 - step / STEPS["waves"])
        losses.append(model.learn(*waves(rng), squared_loss)[0])
    return losses


poem = (Path(shared.__file__).parent / "data" / "sonnet18.txt").read_text(encoding="utf-8")
letters, ids = np.unique(list(poem), return_inverse=True)
x, targets = (part[:620].reshape(4, 155).T for part in (ids[:-1], ids[1:]))


def learn_poem(cell, H, seed):
    """Bits a letter, step by step."""
    V = len(letters)
    model, losses, state = Model(cell, V, H, V, np.random.default_rng(seed), embedding="one-hot"), [], None
    for step in range(STEPS["poem"]):
        part = slice(start := step * 31 % 155, start + 31)
        loss, state = model.learn(x[part], targets[part], state=state if start else None)
        losses.append(loss / np.log(2))
    return losses


def same_weights(I, H):
    """The units of a GRU that has the weights of an LSTM of H units, as nearly as can be."""
    wanted = count(layer("lstm", I, H, rng))
    return min(range(H, 2 * H), key=lambda units: abs(3 * units * (I + units + 1) - wanted))


tasks = {"waves": (learn_waves, 2, 32), "poem": (learn_poem, len(letters), 48)}
curves = {}
for task, (learn, inputs, units) in tasks.items():
    for cell, H in (("lstm", units), ("gru", units), ("gru", same_weights(inputs, units))):
        curves[task, f"{cell.upper()}, H = {H}"] = np.array([learn(cell, H, seed) for seed in range(3)])
ends = {key: runs[:, -30:].mean(-1) for key, runs in curves.items()}
for (task, name), end in ends.items():
    unit = "mean squared error" if task == "waves" else "bits a letter"
    print(f"{task}: {name:13} {end.mean():.4f} {unit} in the last 30 steps ({end.min():.4f} to {end.max():.4f})")

# %%
# The lines are the means of three runs, smoothed over 15 steps; the bands go from the best run to the worst.

figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for axis, task in zip(axes, tasks):
    names = [name for other, name in curves if other == task]
    for name, colour in zip(names, (ORANGE, BLUE, GREEN)):
        smooth = np.array([np.convolve(run, np.ones(15) / 15, "valid") for run in curves[task, name]])
        steps = np.arange(smooth.shape[1]) + 15
        axis.plot(steps, smooth.mean(0), color=colour, label=name)
        axis.fill_between(steps, smooth.min(0), smooth.max(0), color=colour, alpha=0.2, linewidth=0)
    axis.set(xlabel="step of training", yscale="log" if task == "waves" else "linear", title=task)
    axis.legend()
axes[0].set_ylabel("mean squared error")
axes[1].set_ylabel("loss (bits a letter)")
plt.show()

# %%
# Which one, then?
# ----------------
# *A GRU first.* It has three quarters of the weights, so there is less to compute: the ratios above say how much time
# that saves on this machine. It learns the poem faster, even with fewer weights; the bands of the waves say how little
# three runs tell. Its state is half as large, which counts where the states of many sessions are kept.
#
# *An LSTM* where there is much to count or to add up: its c can grow by 1 a step, while the h of a GRU stays between
# -1 and 1 (Weiss, Goldberg and Yahav, 2018). Many models that are already trained are LSTMs as well.
#
# Two tasks prove little, and neither cell wins on all of those that have been tried (Chung et al., 2014; Jozefowicz
# et al., 2015). Try both on yours: in the code above it is one word.
#
# Exercises
# ---------
# 1. Print the times for H = 32 and H = 512. (Hint: weights alone would make a ratio of 3/4. What else is there to do
#    in a step?)
# 2. Put the forget gate's bias of the LSTM at 1 before it learns (rows H to 2H of ``bias_ih``; Jozefowicz et al.,
#    2015). (Hint: it helps where much must be kept for long. Is the poem such a task?)
# 3. Let both tasks be learnt by ``"rnn"``. (Hint: one of them needs memory much more than the other.)
