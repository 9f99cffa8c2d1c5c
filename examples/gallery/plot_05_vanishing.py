r"""
Vanishing and exploding gradients
=================================

How much does a loss at step 100 feel of the state at step t? By the chain rule it is a product of as many matrices as
there are steps between, that of the last step first:

.. math:: \frac{\partial E_{100}}{\partial h_t} = \frac{\partial E_{100}}{\partial h_{100}}
          \prod_{k=t+1}^{100} \frac{\partial h_k}{\partial h_{k-1}}, \qquad
          \frac{\partial h_k}{\partial h_{k-1}} = \mathrm{diag}(\tanh'(a_k))\, U

A product of 100 factors of 0.9 is 0.00003; one of 100 factors of 1.1 is 14,000. So gradients vanish or explode (Bengio
et al., 1994). This page measures it for Elman layers, LSTM and GRU, and clips a gradient that explodes. At the end
stands a task of 100 steps that Elman layers fail.
"""

import matplotlib.pyplot as plt
import numpy as np
from shared import LAYERS, Model, clip

import fastrnn

# %%
# How to measure it
# -----------------
# ``fastrnn.trace`` gives the states of all steps. From each of them the layer runs on to the end, and the pullback
# is asked for the gradient of the state that it began with.

T, H = 100, 32


def gradient_norms(params, x, of):
    """The norm of dE/dh_t or dE/dc_t for t = 1, 2 .. T - 1, where E is the sum of the last h over sqrt(H)."""
    trace = fastrnn.trace(x, params)
    names = ("h_l0", "c_l0") if "c_l0" in trace else ("h_l0",)
    norms = []
    for t in range(1, T):
        state = tuple(trace[name][t - 1][np.newaxis] for name in names)
        (y, _), pullback = fastrnn.vjp(x[t:], params, state if len(state) > 1 else state[0])
        dy = np.zeros_like(y)
        dy[-1] = 1 / H**0.5
        gradient = pullback(dy, wrt=["state"]).state
        norms.append(np.linalg.norm(gradient[1] if of == "c" else gradient))
    return np.array(norms)


# %%
# Elman layers
# ------------
# U is an orthogonal matrix times r, so it stretches every vector by r: all its eigenvalues have the size r, which
# is the spectral radius. Without tanh the gradient would be exactly :math:`r^{100-t}`. These are the dashed lines.
# The slope of tanh is at most 1, so with tanh the gradient lies on the line or below.

rng = np.random.default_rng(0)
x = 0.1 * rng.normal(size=(T, 1, H))
rotation = np.linalg.qr(rng.normal(size=(H, H)))[0]
radii = [0.5, 0.9, 1.1, 2.0]


def elman(radius, activation="tanh"):
    return fastrnn.RNNParams({"weight_ih": np.eye(H), "weight_hh": radius * rotation}, activation=activation)


tanh_norms = {radius: gradient_norms(elman(radius), x, "h") for radius in radii}
linear_norms = {radius: gradient_norms(elman(radius, "linear"), x, "h") for radius in radii}
sigmoid_norms = {radius: gradient_norms(elman(radius, "sigmoid"), x, "h") for radius in radii}

steps = np.arange(1, T)
colours = ["#440154", "#31688e", "#35b779", "#d95f02"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), sharey=True, layout="constrained")
for radius, colour in zip(radii, colours):
    left.semilogy(steps, tanh_norms[radius], color=colour, label=f"r = {radius}")
    left.semilogy(steps, radius ** (T - steps), "--", color=colour, linewidth=1)
    right.semilogy(steps, sigmoid_norms[radius], color=colour, label=f"r = {radius}")
    right.semilogy(steps, (radius / 4.0) ** (T - steps), "--", color=colour, linewidth=1)
left.set(xlabel="step t", ylabel=r"norm of $\partial E_{100} / \partial h_t$")
left.set_title("tanh; dashed: $r^{100-t}$")
right.set(xlabel="step t", title="sigmoid; dashed: $(r/4)^{100-t}$")
left.set_ylim(1e-40, 1e32)
left.legend()
plt.show()

for radius in radii:
    print(
        f"r = {radius}: at step 1 {tanh_norms[radius][0]:.0e} with tanh, "
        f"{linear_norms[radius][0]:.0e} without, {sigmoid_norms[radius][0]:.0e} with sigmoid"
    )
print(f"2 ** 99 = {2.0**99:.0e}")

# %%
# Above r = 1 the states grow until tanh is flatter, and that holds the gradient back. At r = 1.1 this is enough to
# stop it from growing. At r = 2 it explodes all the same. With sigmoid no layer here remembers anything: its slope
# is at most 1/4, so even r = 2 makes a factor of at most 1/2 a step.

a = np.linspace(-6, 6, 241).reshape(-1, 1, 1)
slopes = {}
for activation in ("tanh", "sigmoid"):
    unit = fastrnn.RNNParams({"weight_ih": np.ones((1, 1)), "weight_hh": np.zeros((1, 1))}, activation=activation)
    (y, _), pullback = fastrnn.vjp(a, unit)
    slopes[activation] = pullback(np.ones_like(y)).x.ravel()

figure, axes = plt.subplots(figsize=(5.2, 3), layout="constrained")
axes.plot(a.ravel(), slopes["tanh"], color=colours[1], label="tanh")
axes.plot(a.ravel(), slopes["sigmoid"], "--", color=colours[3], label="sigmoid")
axes.set(xlabel="what goes into the activation", ylabel="slope", title="The factor of each step")
axes.legend()
plt.show()
print(f"largest slope: tanh {slopes['tanh'].max():.2f}, sigmoid {slopes['sigmoid'].max():.2f}")

# %%
# LSTM and GRU
# ------------
# An LSTM adds to its cell state, :math:`c_t = f_t \odot c_{t-1} + i_t \odot g_t`. So along c the factor of a step
# is the forget gate f, with no matrix and no slope between. A GRU has :math:`h_t = (1 - z_t) \odot n_t + z_t \odot
# h_{t-1}`, and z does the same. A gate is :math:`\sigma(\text{bias} + \ldots)`: with a bias of 0 it is near 0.5,
# with one of 4 near 0.98. The dashed lines begin where the measured ones do at step 99, and go back with a factor of
# :math:`\sigma(\text{bias})` a step.

biases = [0, 1, 2, 4]


def gated(cell, bias):
    rng = np.random.default_rng(1)
    kind, G = LAYERS[cell]
    of_gates = np.zeros(G * H)
    of_gates[H : 2 * H] = bias  # the second gate: f of an LSTM (i, f, g, o), z of a GRU (r, z, n)
    W, U = (rng.uniform(-0.5, 0.5, (G * H, H)) / H**0.5 for _ in range(2))
    return kind({"weight_ih": W, "weight_hh": U, "bias_ih": of_gates})


lstm_norms = {bias: gradient_norms(gated("lstm", bias), x, "c") for bias in biases}
gru_norms = {bias: gradient_norms(gated("gru", bias), x, "h") for bias in biases}

figure, both = plt.subplots(1, 2, figsize=(9.5, 4.2), sharey=True, layout="constrained")
for axes, norms, gate, state in zip(both, (lstm_norms, gru_norms), ("forget", "update"), "ch"):
    for bias, colour in zip(biases, colours):
        axes.semilogy(steps, norms[bias], color=colour, label=f"bias {bias}")
        line = norms[bias][-1] / (1 + np.exp(-bias)) ** (T - 1.0 - steps)
        axes.semilogy(steps, line, "--", color=colour, linewidth=1)
    axes.set(xlabel="step t", ylabel=rf"norm of $\partial E_{{100}} / \partial {state}_t$")
    axes.set_title(f"{'LSTM' if state == 'c' else 'GRU'} by the bias of its {gate} gate")
both[0].legend()
plt.show()

for bias in biases:
    print(f"bias {bias}: at step 1 LSTM {lstm_norms[bias][0]:.0e}, GRU {gru_norms[bias][0]:.0e}")

# %%
# The measured lines lie on the dashed ones or above: a gradient also flows through U and the gates. A gate that
# begins at 0.5 forgets as an Elman layer does. A gate near 1 hands the gradient on whole.
#
# Clipping
# --------
# A gradient that explodes throws the weights away in one update. The usual cure scales it down to a largest norm
# (Pascanu et al., 2013). The smallest layer that shows this has one unit and one weight, without tanh: after 50
# steps :math:`h_{50} = u^{50} h_0`. The loss is :math:`(h_{50} - 0.5)^2` with :math:`h_0 = 1`, so u should become
# :math:`0.5^{1/50} = 0.986`. It begins at 1.1, where the loss is a cliff.


def loss_and_gradient(u):
    unit = fastrnn.RNNParams({"weight_ih": np.zeros((1, 1)), "weight_hh": np.full((1, 1), u)}, activation="linear")
    (y, _), pullback = fastrnn.vjp(np.zeros((50, 1, 1)), unit, np.ones((1, 1, 1)))
    error = y[-1].item() - 0.5
    dy = np.zeros_like(y)
    dy[-1] = 2 * error
    return error**2, pullback(dy).weights["weight_hh"].item()


def descend(u, updates, largest):
    path = [u]
    for _ in range(updates):
        gradient = clip({"u": np.array(loss_and_gradient(path[-1])[1])}, largest)["u"]
        path.append(float(path[-1] - 0.001 * gradient))
    return path


clipped, unclipped = descend(1.1, 200, largest=1), descend(1.1, 1, largest=np.inf)
print(f"the gradient at 1.1 is {loss_and_gradient(1.1)[1]:.1e}")
print(f"without clipping u is {unclipped[-1]:.0f} after one update")
print(f"with clipping it is {clipped[-1]:.4f} after {len(clipped) - 1}; {0.5 ** (1 / 50):.4f} is right")

u = np.linspace(0.9, 1.11, 100)
figure, axes = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
axes.semilogy(u, [loss_and_gradient(each)[0] for each in u], color="gray", label="the loss")
axes.semilogy(
    clipped[::8],
    [loss_and_gradient(each)[0] for each in clipped[::8]],
    "o",
    color=colours[1],
    markersize=4,
    label="clipped, every 8th update",
)
axes.set(xlabel="u", ylabel="loss", ylim=(1e-4, 1e5), title="Down a cliff in small steps")
axes.legend()
plt.show()

# %%
# A task of 100 steps
# -------------------
# The first symbol is one of four. Then come 99 others that mean nothing. The question at the end: which was the
# first? Chance is 25 %. All layers have 32 units and the same optimiser, and see the same number of sequences.
#
# LSTM and GRU are trained twice: with first weights as usual, and with gates that begin almost closed to the new
# and open to the old. For a GRU that is a bias of 4 at z. For an LSTM it is 5 at f and -5 at i, after Tallec and
# Ollivier (2018): what is remembered for 100 steps needs a bias of about ln 100 = 4.6.


def sequences(rng, B):
    x = rng.integers(4, 8, (T, B))
    x[0] = rng.integers(0, 4, B)
    return x


def learn(cell, updates=150, **biases):
    """Losses, and the share of right answers on new sequences."""
    rng = np.random.default_rng(0)
    model = Model(cell, 8, H, 4, rng, embedding="one-hot")
    weights = dict(model.params.weights)
    for gate, bias in biases.items():
        k = {"lstm": "ifgo", "gru": "rzn"}[cell].index(gate)
        weights["bias_ih"] = weights["bias_ih"].copy()
        weights["bias_ih"][k * H : (k + 1) * H] = bias
    model.params = model.params.with_weights(weights)
    losses = []
    for _ in range(updates):
        x = sequences(rng, 64)
        losses.append(model.learn(x, x[0], return_sequences=False)[0])
    x = sequences(rng, 1000)
    return losses, float(np.mean(model(x, return_sequences=False).argmax(axis=-1) == x[0]))


results = {
    "RNN": learn("rnn"),
    "LSTM": learn("lstm"),
    "GRU": learn("gru"),
    "LSTM, f: 5, i: -5": learn("lstm", f=5, i=-5),
    "GRU, z: 4": learn("gru", z=4),
}
figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
styles = [("black", "-"), (colours[1], ":"), (colours[3], ":"), (colours[1], "-"), (colours[3], "-")]
for (name, (losses, right)), (colour, style) in zip(results.items(), styles):
    axes.plot(losses, style, color=colour, label=f"{name}: {100 * right:.0f} % right")
    print(f"{name}: loss {np.mean(losses[-10:]):.3f}, {100 * right:.0f} % right")
axes.axhline(np.log(4), color="gray", linewidth=0.8)
axes.set(xlabel="updates of the weights", ylabel="loss, nats", title="Which was the first of 100 symbols?")
axes.legend(loc="center right")
plt.show()

# %%
# The gray line is ln 4, the loss of a guess. Gates alone do not help here: where they begin half open, the gradient
# of the first step is too small to be heard. Where they begin at "keep", both layers learn the task.
#
# Exercises
# ---------
# 1. Give U some other form, for instance ``rng.normal(size=(H, H)) / H**0.5 * r``. The spectral radius is about r,
#    but tanh's curve may now lie above the dashed line for a while. Why? (Look at the largest singular value.)
# 2. How long a sequence does a GRU with a bias of 4 learn? Try a T of 200, 500 and 1000, then a larger bias.
# 3. Let the RNN begin with ``weight_hh`` = 1 on the diagonal and activation "relu" (Le et al., 2015). Does it
#    learn?
