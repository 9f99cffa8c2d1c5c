r"""
Precision and speed
===================

A layer's weights can be held in fewer bits. A step of one row reads every weight once, so fewer bytes are less time.
With ``"int8"`` each row w of a matrix has a scale, and becomes bytes q:

.. math:: s = \max |w| / 127, \qquad q = \mathrm{round}(w / s)

So a weight is off by half of s at most. ``"float16"`` keeps 11 binary digits of each weight, and ``"int8_fast"`` also
holds the inputs in 8 bits. What does that cost a model that was trained? This page measures error and time of each
precision on the character model of ``examples/char_lm``: two LSTM layers of 320 units.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from shared import example

import fastrnn
from fastrnn import reference

# %%
# Four precisions of a model
# --------------------------

PRECISIONS = ("float32", "float16", "int8", "int8_fast")
COLOURS = dict(zip(PRECISIONS, ("black", "#31688e", "#35b779", "#d95f02")))

char_lm = example("char_lm/model.py")
model = char_lm.load_model()
trained = fastrnn.LSTMParams(model.lstm, embedding=model.embedding)
layers = {precision: trained.to(precision) for precision in PRECISIONS}
for precision, params in layers.items():
    print(f"{precision:9}  {params.nbytes / 1e6:.1f} MB")

# %%
# The error of the outputs
# ------------------------
# The exact outputs are those of ``fastrnn.reference``, which computes the same layers in float64 NumPy. The error
# is the root mean square of the difference, relative to that of the outputs:
#
# .. math:: e = \sqrt{\overline{(y - \hat{y})^2} \, / \, \overline{\hat{y}^2}}
#
# The text is the beginning of files that the model has not seen.

texts = [text[:400] for text in char_lm.load_heldout() if len(text) >= 400]
tokens = np.array([char_lm.encode(text) for text in texts]).T  # (T, B)
exact = reference.lstm(model.embedding.astype("float64")[tokens], model.lstm)[0]


def relative_error(y, exact, axis=None):
    return np.sqrt(np.mean((y - exact) ** 2, axis) / np.mean(exact**2, axis))


outputs = {precision: fastrnn.lstm(tokens, params)[0] for precision, params in layers.items()}
errors = {precision: float(relative_error(y, exact)) for precision, y in outputs.items()}
for precision, error in errors.items():
    print(f"{precision:9}  relative error {error:.1e}")

# %%
# float16 has the error of float32, since the file of this model holds halves: they are carried exactly. A layer
# with random weights of more digits shows what float16 rounds away.

rng = np.random.default_rng(0)
H = 128
shapes = {"weight_ih": (4 * H, H), "weight_hh": (4 * H, H), "bias_ih": (4 * H,)}
weights = {name: rng.uniform(-1, 1, shape) / H**0.5 for name, shape in shapes.items()}
x = rng.normal(size=(100, 4, H)).astype("float32")
random_exact = reference.lstm(x, weights)[0]
params = fastrnn.LSTMParams(weights, dtype="float32")
random_outputs = {precision: fastrnn.lstm(x, params.to(precision))[0] for precision in PRECISIONS}
random_errors = {precision: float(relative_error(y, random_exact)) for precision, y in random_outputs.items()}
for precision, error in random_errors.items():
    print(f"{precision:9}  relative error {error:.1e} of a random layer")

# %%
# What the error costs the model
# ------------------------------
# An error in y is not yet an error of the model. The model's own measure is bits per character: the mean of -log2
# of the probability that it gives to the character that comes.


def bits_per_character(params):
    def lstm(x, state, lengths):
        return fastrnn.lstm(x, params, state, lengths=lengths)

    return char_lm.bits_per_character(model, texts, lstm)


bits = {precision: bits_per_character(params) for precision, params in layers.items()}
for precision in PRECISIONS:
    print(f"{precision:9}  {bits[precision]:.4f} bits per character")

# %%
# Time
# ----
# Times depend on the machine and on what else it does. So the precisions take turns, the least time of each is
# taken, and what is told is the ratio to float32. One thread; a step is one character of a stream, as a program
# that writes text takes it; a call is 50 characters of 32 rows.


def least_times(calls, seconds=2.0):
    """Seconds of each call, the calls taking turns."""
    least, end = dict.fromkeys(calls, np.inf), time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            least[name] = min(least[name], time.perf_counter() - begin)
    return least


def call_of(params, x):
    return lambda: fastrnn.lstm(x, params, threads=1)


def step_of(params):
    stream = fastrnn.Stream(params)
    return lambda: stream.step(5)


batch = np.resize(tokens, (50, 32))
times = {
    "a step": least_times({precision: step_of(params) for precision, params in layers.items()}),
    "a call of 32 rows": least_times({precision: call_of(params, batch) for precision, params in layers.items()}),
}
print(f"instruction set: {layers['int8'].target}")
for what, least in times.items():
    for precision in PRECISIONS:
        ratio = least["float32"] / least[precision]
        print(f"{what:17}  {precision:9}  {1e6 * least[precision]:7.0f} us, {ratio:.1f} times as fast as float32")

# %%
# The picture
# -----------

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
for precision, y in outputs.items():
    of_step = relative_error(y, exact, axis=(1, 2))
    style = "--" if precision == "float16" else "-"
    left.semilogy(np.arange(1, len(y) + 1), of_step, style, color=COLOURS[precision], label=precision)
left.set(xlabel="characters read", ylabel="relative error of y", title="Errors stay small")
left.legend(loc="center right")
places = np.arange(len(PRECISIONS))
middle.bar(places, [bits[precision] for precision in PRECISIONS], color=COLOURS.values())
for place, precision in zip(places, PRECISIONS):
    middle.text(place, bits[precision], f"{bits[precision]:.4f}", ha="center", va="bottom")
middle.set(ylabel="bits per character", title="The model is as good", xticks=places, xticklabels=PRECISIONS)
middle.set_ylim(0, 1.15 * max(bits.values()))
for shift, (what, least), hatch in zip((-0.2, 0.2), times.items(), ("", "//")):
    ratios = [least["float32"] / least[precision] for precision in PRECISIONS]
    right.bar(places + shift, ratios, 0.4, color=COLOURS.values(), hatch=hatch, edgecolor="white", label=what)
right.axhline(1, color="gray", linewidth=0.8)
right.set(ylabel="times as fast as float32", title="Plain: a step; hatched: 32 rows", xticks=places)
right.set_xticklabels(PRECISIONS)
plt.show()

# %%
# The error does not grow with the number of characters: an LSTM forgets, and with what it forgets go its old
# errors. A relative error of one or two percent in y costs the model next to nothing in bits.
#
# Exercises
# ---------
# 1. Make one weight of ``weight_hh_l0`` a hundred times as large, and look at the error of int8. Why does one
#    outlier harm its whole row? (``fastrnn inspect`` warns of such rows.)
# 2. Time a layer of 32 units and one of 1024. Which precision pays for which size?
# 3. Let the model write with each precision from the same random numbers. When do the texts part?
