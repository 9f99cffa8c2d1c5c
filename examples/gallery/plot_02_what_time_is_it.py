r"""
What time is it ?
=================

How does a sentence go through a layer, and which shapes do the arrays have on the way? This page follows five words:
first they become integers, then vectors, then states.

.. math:: h_t = \tanh(W x_t + U h_{t-1}), \qquad h_0 = 0

This is an Elman layer without a bias. Nothing is trained here: the weights are random. The same model in Keras is an
``Embedding`` and a ``SimpleRNN``, and its summary has the same numbers.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastrnn

# %%
# Words become integers
# ---------------------
# A vocabulary lists all words that there are. A word's index is its place in this list. The question mark counts as a
# word.

sentence = ["What", "time", "is", "it", "?"]
vocabulary = sorted(set(sentence))
tokens = np.array([[vocabulary.index(word) for word in sentence]])  # (B, T): one sentence, five words
print(vocabulary)
print("tokens", tokens, tokens.shape)

# %%
# Integers become vectors
# -----------------------
# The embedding E has a row of 100 numbers for each word of the vocabulary. A sentence of tokens takes its rows from it.
# Here B = 1 sentence of T = 5 words becomes (B, T, I) = (1, 5, 100).

rng = np.random.default_rng(0)
V, I, H = len(vocabulary), 100, 64
E = rng.uniform(-1, 1, (V, I)).astype("float32")
x = E[tokens]
print("E", E.shape, " x", x.shape)

# %%
# Vectors become states
# ---------------------
# The layer has two matrices: W reads the word's vector, U the state of before. Each of the 64 units has a row in both.

W = (rng.uniform(-1, 1, (H, I)) / H**0.5).astype("float32")
U = (rng.uniform(-1, 1, (H, H)) / H**0.5).astype("float32")
params = fastrnn.RNNParams({"weight_ih": W, "weight_hh": U}, batch_first=True)
y, h_n = fastrnn.rnn(x, params)
last = h_n[0]  # of the only layer
print("all states", y.shape, " last state", last.shape)

# %%
# ``y`` has the state after each word. ``h_n`` is the state after the last one; it has an axis more, since a call may
# run several layers. The last state is also the last row of ``y``:

assert np.array_equal(y[:, -1], last)

# %%
# The same, written out: five times the formula at the top of this page. fastrnn adds the same terms in another order,
# so the last digits may differ.

h = np.zeros(H, "float32")
for t in range(len(sentence)):
    h = np.tanh(W @ x[0, t] + U @ h)
difference = float(abs(h - last[0]).max())
print(f"largest difference from the loop: {difference:.1e}")

# %%
# Nobody has to make ``x``. Params that know the embedding take the tokens themselves, and give the same bits.

of_tokens = fastrnn.RNNParams({"weight_ih": W, "weight_hh": U}, embedding=E, batch_first=True)
assert np.array_equal(fastrnn.rnn(tokens, of_tokens)[0], y)

# %%
# The same in Keras
# -----------------
# In Keras the model is
#
# .. code-block:: python
#
#    words = keras.Input((5,), batch_size=1, dtype="int32")
#    vectors = layers.Embedding(5, 100)(words)
#    states = layers.SimpleRNN(64, use_bias=False, return_sequences=True, return_state=True)(vectors)
#    keras.Model(words, states).summary()
#
# and it prints
#
# .. code-block:: text
#
#    Layer (type)               Output Shape             Param #
#    input_layer (InputLayer)   (1, 5)                         0
#    embedding (Embedding)      (1, 5, 100)                  500
#    simple_rnn (SimpleRNN)     [(1, 5, 64), (1, 64)]     10,496
#
# Our shapes are the same. Keras keeps its matrices the other way round, and multiplies x from the left: it computes x
# W where we compute W x. So its ``kernel`` is our W transposed, (100, 64), and its ``recurrent_kernel`` (64, 64) is
# our U transposed. ``fastrnn.from_keras(layer)`` takes them over.

keras_shapes = [E.shape, W.T.shape, U.T.shape]
print("weights as Keras has them:", keras_shapes)
print("numbers to learn:", E.size, "in the embedding,", W.size + U.size, "in the layer")

# %%
# What the state holds
# --------------------
# Each column is the state after a word. It depends on all words so far, and on their order: the same words in another
# order lead to another state, while the mean of their vectors would be the same.

other = ["it", "is", "What", "time", "?"]
y_other, h_other = fastrnn.rnn(np.array([[vocabulary.index(word) for word in other]]), of_tokens)
apart = float(abs(h_other[0] - last).max())
print(f"largest difference between the last states of the two orders: {apart:.2f}")

figure, axes = plt.subplots(1, 2, figsize=(8, 5), sharey=True, layout="constrained")
for axis, words, states in zip(axes, (sentence, other), (y[0], y_other[0])):
    image = axis.imshow(states.T, cmap="PuOr", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axis.set_xticks(range(len(words)), words)
    axis.set(xlabel="after the word", title=" ".join(words))
axes[0].set_ylabel("unit of the layer")
figure.colorbar(image, ax=axes, label="state h")
plt.show()

# %%
# Exercises
# ---------
# 1. Add a second sentence of five words, so that B is 2. Which shapes change? (Hint: only those of tokens, x, y and
#    h_n; weights do not know B or T.)
# 2. Add a sentence of three words. (Hint: ``fastrnn.pad`` and ``lengths=``. What is ``y`` past the end of it?)
# 3. Give the layer a bias. How many numbers does Keras count then? (Hint: one for each unit.)
