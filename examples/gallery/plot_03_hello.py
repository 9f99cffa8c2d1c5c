r"""
hello
=====

The smallest text that a layer can learn: it sees the letters of "hell" one by one, and says after each which comes
next. It is wrong at first, and right after a moment. Then the same few lines learn a poem.

.. math:: h_t = \tanh(W x_t + U h_{t-1} + b), \qquad p_t = \operatorname{softmax}(V h_t + a)

:math:`p_t` has a probability for each letter of the vocabulary. The loss is the mean of :math:`-\ln` of those that the
right letters were given. The model and its step of training are in ``shared.py``, which the program
``examples/min_char_rnn.py`` uses too: it learns any text file.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import shared
from shared import Model, one_hot, softmax

import fastrnn

# %%
# Four letters
# ------------
# The vocabulary is h, e, l and o. A letter goes in as a *one-hot* vector: four numbers, of which one is 1.

letters = "helo"
ids = np.array([letters.index(letter) for letter in "hello"])
x, targets = ids[:-1, np.newaxis], ids[1:, np.newaxis]  # (T, B): "hell" and "ello"
print(one_hot(x[:, 0], 4))

# %%
# Such a vector picks one column of W. So nobody has to make it: with ``embedding="one-hot"`` a layer takes the
# integers themselves, and gives the same bits. The first state is zeros, where a call is given none.

model = Model("rnn", I=4, H=16, O=4, rng=np.random.default_rng(0), embedding="one-hot")
h_0 = np.zeros((1, 1, 16), "float32")  # (layers, B, H)
y, h_n = fastrnn.rnn(x, model.params)
assert np.array_equal(fastrnn.rnn(one_hot(x, 4), model.params, h_0)[0], y)

# %%
# Wrong at first
# --------------
# Weights are random in the beginning, and so is what the model says.


def probabilities():
    """After each letter of "hell", those of h, e, l and o: (4, 4)."""
    return softmax(model(x))[:, 0]


def says():
    return "".join(letters[i] for i in probabilities().argmax(-1))


p_before, said_before = probabilities(), says()
print("asked for ello, it says", said_before)

# %%
# Right after a moment
# --------------------
# Each step of training reads the four letters, compares, and moves all weights a little against the gradient.

losses = [model.learn(x, targets)[0] for _ in range(150)]
p_after, said_after = probabilities(), says()
print(f"it says {said_after}; the loss fell from {losses[0]:.2f} to {losses[-1]:.3f}")

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
for axis, p, title in zip(axes, (p_before, p_after), ("before training", "after 150 steps of training")):
    image = axis.imshow(p.T, cmap="Blues", vmin=0, vmax=1)
    for t in range(4):
        for letter in range(4):
            weight = "bold" if letter == targets[t, 0] else "normal"
            colour = "white" if p[t, letter] > 0.5 else "black"
            axis.text(t, letter, f"{p[t, letter]:.2f}", ha="center", va="center", color=colour, weight=weight)
    axis.set_xticks(range(4), "hell")
    axis.set_yticks(range(4), letters)
    axis.set(xlabel="letter read", title=title)
axes[0].set_ylabel("next letter (bold: the right one)")
figure.colorbar(image, ax=axes, label="probability")
plt.show()

# %%
# After the first l comes an l, after the second one an o. The input is the same; only the state differs. A table of
# letter pairs could give both a half at best.
#
# The output is the next input
# ----------------------------
# Now the model gets an h, and then what it says itself. A ``Stream`` keeps the state between steps.

stream, letter, word = fastrnn.Stream(model.params), letters.index("h"), "h"
for _ in range(4):
    logits = model.outputs(stream.step(letter))
    letter = int(logits.argmax())
    word += letters[letter]
print(word)

# %%
# A poem
# ------
# Shakespeare's 18th sonnet, with its spaces, its marks and the ends of its lines: they are letters like all others. The
# layer is an LSTM, for it has more to remember. It reads 4 parts of the poem side by side, 31 letters of each in a step
# of training; the state goes on to the next step. Every now and then we let it write: it draws each letter from its
# probabilities, made a little sharper (the *temperature* is 0.5), and reads what it drew.

poem = (Path(shared.__file__).parent / "data" / "sonnet18.txt").read_text(encoding="utf-8")
print(poem)
signs, ids = np.unique(list(poem), return_inverse=True)
rng = np.random.default_rng(0)
B, T = 4, 31
steps = (len(poem) - 1) // (B * T) * T  # of each part
x, targets = (part[: B * steps].reshape(B, steps).T for part in (ids[:-1], ids[1:]))
poet = Model("lstm", I=len(signs), H=96, O=len(signs), rng=rng, embedding="one-hot")
bits, samples, state = [], {}, None
for step in range(401):
    start = step * T % steps
    if step in (0, 30, 80, 150, 400):
        samples[step] = "".join(signs[poet.write(ids[0], 120, 0.5, rng)])
    loss, state = poet.learn(x[start : start + T], targets[start : start + T], state=state if start else None)
    bits.append(loss / np.log(2))

print(f"{len(poem)} letters, {len(signs)} of them different")
for step, sample in samples.items():
    print(f"\n--- after {step} steps of training\n{sample}")

axis = plt.subplots(figsize=(7, 3.2), layout="constrained")[1]
axis.plot(bits, color="#0072B2")
axis.axhline(np.log2(len(signs)), color="0.5", linestyle="--")
axis.text(400, np.log2(len(signs)) - 0.1, "every letter equally likely", ha="right", va="top", color="0.4")
for step in samples:
    axis.plot(step, bits[step], "o", color="#D55E00", label="it wrote a sample" if step == 0 else None)
axis.set(xlabel="step of training", ylabel="loss (bits a letter)", ylim=(0, None))
axis.legend(loc="center right")
plt.show()

# %%
# First it learns which letters are frequent, then short words, then the poem by heart. That is all it can do with so
# little text. To learn a language takes a language's worth of text; ``examples/char_lm`` has been
# trained on more.
#
# Exercises
# ---------
# 1. Let the model learn "hello" from pairs of letters alone: give it the state of zeros at each step, by x of shape
#    (1, 4). (Hint: what does it say after l?)
# 2. Let the poet write at temperatures 0.1 and 1.5 before it knows all by heart. (Hint: one repeats itself, the other
#    one invents.)
# 3. Learn the poem with ``"rnn"`` and ``"gru"`` in place of ``"lstm"``. (Hint: compare the losses after 300 steps.)
