r"""
Backpropagation through time
============================

An Elman layer uses the same weights :math:`W, U, b` at every step:

.. math:: h_t = \tanh(W x_t + U h_{t-1} + b)

Unrolled over T steps it is a network of T layers that share their weights. Backpropagation through time (BPTT) is
backpropagation in this network. The gradient of a shared weight is the sum of the gradients of all its copies.
This page writes BPTT in NumPy, compares it with :func:`fastrnn.vjp`, trains with it, and then cuts it short.
"""

import matplotlib.pyplot as plt
import numpy as np
from shared import Adam, clip, uniform

import fastrnn

# %%
# BPTT in NumPy
# -------------
# Forward, each step keeps its h. Backward, the steps come in reverse order. The gradient that reaches :math:`h_t`
# has two parts: what the loss of step t says, :math:`\partial E_t / \partial h_t`, and what comes back from step
# t+1. The derivative of tanh is :math:`1 - h_t^2`.
#
# Arrays are (T, B, I) and (T, B, H): steps, rows of the batch, inputs or hidden units.


def forward(x, W, U, b):
    h = [np.zeros((x.shape[1], len(U)), x.dtype)]  # h[0] is the state before the first step
    for x_t in x:
        h.append(np.tanh(x_t @ W.T + h[-1] @ U.T + b))
    return np.array(h)


def backward(x, h, dy, W, U):
    """Gradients of W, U, b and x, given dy: the gradient of the loss with respect to each output."""
    dW, dU, db, dx = np.zeros_like(W), np.zeros_like(U), 0, np.zeros_like(x)
    dh = 0  # what comes back from the step after this one
    for t in reversed(range(len(x))):
        da = (dy[t] + dh) * (1 - h[t + 1] ** 2)  # a is what goes into tanh
        dW += da.T @ x[t]
        dU += da.T @ h[t]
        db = db + da.sum(axis=0)
        dx[t] = da @ W
        dh = da @ U
    return dW, dU, db, dx


# %%
# The same from fastrnn
# ---------------------
# ``fastrnn.vjp`` runs the layer and returns a function, the pullback. Given dy, the pullback returns the gradients.
# The loss here is :math:`E = \sum_t E_t` with :math:`E_t = \frac{1}{2} |h_t - \hat{y}_t|^2`, so dy is :math:`h_t -
# \hat{y}_t`.

rng = np.random.default_rng(0)
T, B, I, H = 8, 4, 3, 16
W, U, b = rng.normal(size=(H, I)) / 2, rng.normal(size=(H, H)) / 4, rng.normal(size=H) / 4
x, wanted = rng.normal(size=(T, B, I)), rng.uniform(-1, 1, (T, B, H))


def largest_difference(dtype):
    """Of all gradients, relative to the largest number of each array: NumPy's and fastrnn's."""
    arrays = [array.astype(dtype) for array in (x, W, U, b, wanted)]
    h = forward(*arrays[:4])
    by_hand = backward(arrays[0], h, h[1:] - arrays[4], *arrays[1:3])
    params = fastrnn.RNNParams(dict(zip(("weight_ih", "weight_hh", "bias_ih"), arrays[1:4])))
    (y, _), pullback = fastrnn.vjp(arrays[0], params)
    gradients = pullback(y - arrays[4])
    from_fastrnn = [gradients.weights[name] for name in ("weight_ih", "weight_hh", "bias_ih")] + [gradients.x]
    return max(float(abs(a - b).max() / abs(a).max()) for a, b in zip(by_hand, from_fastrnn))


differences = {dtype: largest_difference(dtype) for dtype in ("float32", "float64")}
for dtype, difference in differences.items():
    print(f"{dtype}: largest relative difference {difference:.0e}, rounding of one number {np.finfo(dtype).eps:.0e}")

# %%
# A sum over losses, and over copies of the weights
# -------------------------------------------------
# Take three steps and one loss a step. :math:`E_1` sees one copy of U, :math:`E_2` two, :math:`E_3` three. Since
# the loss is a sum, so is its gradient:
#
# .. math:: \frac{\partial E}{\partial U} = \frac{\partial E_1}{\partial U} + \frac{\partial E_2}{\partial U}
#           + \frac{\partial E_3}{\partial U}
#
# A pullback may be called several times, so each part can be asked for alone: all of dy is zero but one step.

params = fastrnn.RNNParams({"weight_ih": W, "weight_hh": U, "bias_ih": b})
(y, _), pullback = fastrnn.vjp(x[:3], params)
dy = y - wanted[:3]
parts = []
for t in range(3):
    only_t = np.zeros_like(dy)
    only_t[t] = dy[t]
    parts.append(pullback(only_t).weights)
whole = pullback(dy).weights
for name in whole:
    difference = abs(sum(part[name] for part in parts) - whole[name]).max() / abs(whole[name]).max()
    print(f"{name}: the sum of three parts differs from the whole by {difference:.0e}")

# %%
# And each part is a sum over copies. :math:`\partial E_t / \partial U_k` belongs to the copy of U that step k used.
# It is zero for k > t: the future does not change the past. On the whole it gets smaller the further back k lies,
# which the next page looks into.

h = forward(x, W, U, b)
of_copies = np.zeros((T, T))  # [t, k]: the norm of dE_t / dU_k
for t in range(T):
    dh = h[t + 1] - wanted[t]
    for k in range(t, -1, -1):
        da = dh * (1 - h[k + 1] ** 2)
        of_copies[t, k] = np.linalg.norm(da.T @ h[k])
        dh = da @ U

figure, axes = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
shown = np.ma.masked_equal(of_copies, 0)
image = axes.pcolormesh(np.arange(1, T + 1), np.arange(1, T + 1), shown, norm="log", cmap="viridis")
axes.set(xlabel="k, the step whose copy of U it is", ylabel="t, the step of the loss")
axes.set_title("Which copies of U each loss reaches")
axes.invert_yaxis()
figure.colorbar(image, label=r"norm of $\partial E_t / \partial U_k$")
plt.show()

# %%
# The first column is empty: step 1 multiplies U with a state of zeros.
#
# Gradient descent
# ----------------
# A step of gradient descent moves each weight against its gradient, :math:`w \leftarrow w - \eta\, \partial E /
# \partial w`. The task: answer each input, which is 1 or -1, with the one of three steps before. A linear head V
# makes the answer out of h. ``params.with_weights`` would keep the options of a layer; this one has none, so new
# params are made for each update.

H = 32


def first_weights(rng):
    return uniform(rng, H, weight_ih=(H, 1), weight_hh=(H, H), bias_ih=(H,), head=(1, H))


def echo(rng, T, B, delay):
    """Random signs, and what should be answered."""
    x = rng.choice([-1, 1], size=(T, B, 1)).astype("float32")
    return x, np.concatenate([np.zeros_like(x[:delay]), x[: T - delay]])


def loss_and_gradients(x, wanted, weights, state=None):
    layer = {name: w for name, w in weights.items() if name != "head"}
    (y, state), pullback = fastrnn.vjp(x, fastrnn.RNNParams(layer), state)
    error = y @ weights["head"].T - wanted
    d_error = 2 * error / error.size
    gradients = pullback(d_error @ weights["head"], wrt=["weights"]).weights
    head = np.tensordot(d_error, y, axes=([0, 1], [0, 1]))
    return float(np.mean(error**2)), {**gradients, "head": head}, state, pullback.nbytes


rng = np.random.default_rng(0)
weights, descent = first_weights(rng), []
for _ in range(500):
    loss, gradients, _, _ = loss_and_gradients(*echo(rng, T=30, B=32, delay=3), weights)
    weights = {name: w - 0.2 * gradients[name] for name, w in weights.items()}
    descent.append(loss)
print(f"mean square error: {descent[0]:.2f} at first, {descent[-1]:.4f} after {len(descent)} updates")

# %%
# Truncated BPTT
# --------------
# Whole BPTT keeps every step until the way back, so memory grows with T. Truncated BPTT cuts the sequence into
# chunks. The state goes on from chunk to chunk. Its gradient does not. Memory is that of one chunk, and weights
# move after each.

long_x, long_wanted = echo(np.random.default_rng(0), T=2000, B=32, delay=3)
weights = first_weights(np.random.default_rng(0))
memory = {T: loss_and_gradients(long_x[:T], long_wanted[:T], weights)[3] for T in (10, 40, 2000)}
for T, nbytes in memory.items():
    print(f"{T} steps: the way back keeps {nbytes / 1000:.0f} kB")

# %%
# What it can't learn is a dependency longer than the chunk. Each delay below is trained twice on the same 12,000
# steps: in chunks of 10, and in chunks of 40. The state is carried over in both.


def train(chunk, delay, T=12000, B=16):
    rng = np.random.default_rng(1)
    x, wanted = echo(rng, T, B, delay)
    weights, optimiser, state, losses = first_weights(rng), Adam(0.005), None, []
    for start in range(0, T, chunk):
        part = slice(start, start + chunk)
        loss, gradients, state, _ = loss_and_gradients(x[part], wanted[part], weights, state)
        weights = optimiser(weights, clip(gradients, largest=1))
        losses.append(loss)
    return float(np.mean(losses[-len(losses) // 20 :]))  # of the last twentieth


delays = [3, 6, 9, 10, 12]
errors = {chunk: [train(chunk, delay) for delay in delays] for chunk in (10, 40)}

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
left.semilogy(descent, color="black")
left.set(xlabel="updates of the weights", ylabel="mean square error", title="Gradient descent, a delay of 3")
for chunk, marker, colour in zip(errors, "os", ("tab:orange", "tab:blue")):
    right.semilogy(delays, errors[chunk], marker + "-", color=colour, label=f"chunks of {chunk}")
right.axvline(9.5, color="gray", linestyle=":")
right.set(xlabel="delay, in steps", ylabel="mean square error", title="What truncation can't learn")
right.text(9.7, 0.02, "longer than\na chunk of 10", color="dimgray")
right.legend()
plt.show()

for delay, *both in zip(delays, *errors.values()):
    print(f"delay {delay:2}: error {both[0]:.4f} in chunks of 10, {both[1]:.4f} in chunks of 40")

# %%
# With a delay of 9, one step in ten of a chunk of 10 still sees the input that it has to remember, and that is
# enough. With a delay of 10 none does. An error of 1 is that of an answer of 0 whatever the input.
#
# Exercises
# ---------
# 1. Change one sign in ``backward`` and look at the differences. Which of the four gradients notice, and why not
#    all? (A wrong ``dh`` changes nothing where T is 1.)
# 2. Find the longest delay that chunks of 40 learn. Is it 39? Give it more steps, or more units.
# 3. Let the gradient cross one border: keep the pullback of the chunk before, and call it with ``dstate=`` of the
#    later one's ``gradients.state``. Which delays do chunks of 10 learn now?
