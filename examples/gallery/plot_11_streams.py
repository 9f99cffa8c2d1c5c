r"""
Many streams
============

A program that listens to many callers has a stream for each: a state of its own, and a step whenever a frame of sound
arrives. There are two ways to take a step of n streams. One after the other, each step reads all weights:

.. math:: h^{(s)}_t = f(W x^{(s)}_t + U h^{(s)}_{t-1}), \qquad s = 1 \ldots n

A pool takes the n steps at once, as rows of a batch, and reads the weights once for all of them. This page measures
when the answers come, by the number of streams.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from shared import uniform

import fastrnn

# %%
# One layer, n streams
# --------------------
# ``fastrnn.Stream`` is one stream. ``fastrnn.StreamPool`` holds any number of them: ``open`` gives a number, and
# ``step`` takes a list of these numbers and their inputs.


def layer(H):
    rng = np.random.default_rng(0)
    return fastrnn.LSTMParams(uniform(rng, H, weight_ih=(4 * H, H), weight_hh=(4 * H, H), bias_ih=4 * H))


# %%
# The bits of a stream do not depend on who steps beside it. So the choice is one of time alone.

params = layer(128)
rng = np.random.default_rng(1)
x = rng.normal(size=(20, 5, 128)).astype("float32")  # 20 steps of 5 streams
pool = fastrnn.StreamPool(params)
ids = [pool.open() for _ in range(5)]
from_pool = np.array([pool.step(ids, x_t) for x_t in x])
streams = [fastrnn.Stream(params) for _ in range(5)]
alone = np.array([[stream.step(row) for stream, row in zip(streams, x_t)] for x_t in x])
same_bits = bool(np.array_equal(from_pool, alone))
print(f"pool and single streams have the same bits: {same_bits}")

# %%
# Times
# -----
# All n frames arrive at the same time. With single streams the first answer comes after one step, and the last
# after n. With a pool all answers come at the end of the one call. Both take turns, and the median of each is
# taken. It depends on the machine: read the shapes, not the numbers.


def microseconds(params, n, seconds=0.25):
    """Of n steps one after the other, and of a step of a pool: medians."""
    x = np.random.default_rng(2).normal(size=(n, params.hidden_size)).astype("float32")
    streams, pool = [fastrnn.Stream(params) for _ in range(n)], fastrnn.StreamPool(params, capacity=n)
    ids, out = np.array([pool.open() for _ in range(n)]), np.empty_like(x)
    of_streams, of_pool = [], []
    end = time.perf_counter() + seconds
    while len(of_pool) < 5 or time.perf_counter() < end:
        times = [time.perf_counter()]
        for stream, row in zip(streams, x):
            stream.step(row)
        times.append(time.perf_counter())
        pool.step(ids, x, out)
        times.append(time.perf_counter())
        of_streams.append(times[1] - times[0])
        of_pool.append(times[2] - times[1])
    return 1e6 * float(np.median(of_streams)), 1e6 * float(np.median(of_pool))


counts = [1, 2, 4, 8, 16, 32, 64, 128, 256]
measured = {}
for H in (128, 512):
    params = layer(H)
    measured[H] = np.array([microseconds(params, n) for n in counts])
    for n, (one_by_one, at_once) in zip(counts, measured[H]):
        print(f"H = {H}, {n:3} streams: {one_by_one:8.0f} us one by one, {at_once:8.0f} us in a pool")

# %%
# Left: how long an answer takes. Right: what a step costs, which says how many streams a core can carry.

figure, rows = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
left, right = rows
for H, colour in zip(measured, ("#31688e", "#d95f02")):
    one_by_one, at_once = measured[H].T
    left.loglog(counts, one_by_one, "o-", color=colour, label=f"H = {H}, one by one, the last")
    left.loglog(counts, one_by_one / counts, ":", color=colour, label=f"H = {H}, one by one, the first")
    left.loglog(counts, at_once, "s--", color=colour, label=f"H = {H}, pool, all answers")
    right.loglog(counts, one_by_one / counts, "o-", color=colour, label=f"H = {H}, one by one")
    right.loglog(counts, at_once / counts, "s--", color=colour, label=f"H = {H}, pool")
left.set(xlabel="streams with a frame", ylabel="time until the answer, us", title="Latency")
right.set(xlabel="streams with a frame", ylabel="time of a step, us", title="Cost of a step")
for axes in rows:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=8)
    axes.set_xticks(counts, counts)
    axes.minorticks_off()
plt.show()

# %%
# With frames of 10 ms a core has 10,000 us for a step of every stream. How many streams is that?

for H, times in measured.items():
    for way, total in zip(("one by one", "in a pool"), times.T):
        print(f"H = {H}: {10_000 / (total[-1] / counts[-1]):,.0f} streams {way}")

# %%
# A pool needs the frames at the same time. Where they come one by one, something has to wait for others, and a wait
# is latency too: ``fastrnn.aio.Batcher`` and the page on serving in the documents are about that. While all steps
# take well under a core, a ``Stream`` each is simplest, and its answers come first.
#
# Exercises
# ---------
# 1. Which H is the first for which a pool of 32 pays? Try 8, 16, 32, 64.
# 2. Let only half of the streams have a frame at each step, other ones each time. Does the cost of a step change?
# 3. Take ``params.to("int8")``. Which of the two ways gains more, and why? (What does a step read?)
