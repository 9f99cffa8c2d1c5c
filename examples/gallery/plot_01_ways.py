r"""
Ways to use a layer
===================

A recurrent layer reads a sequence step by step. Its state :math:`h` remembers what came before:

.. math:: h_t = \tanh(W x_t + U h_{t-1} + b), \qquad o_t = V h_t + a

:math:`V` and :math:`a` belong to a *head*, a linear layer that makes the outputs :math:`o_t`. The equations are always
the same. What differs is at which steps there is an input, and at which steps somebody asks for an output. This page
trains five small models, one for each way. Some have a GRU layer instead, which remembers longer.

All data is made up by the page itself, so we know what the right answers are. The letters are those of the field: T
steps, B rows of a batch, I inputs, H units. An input ``x`` is an array (T, B, I).
"""

import matplotlib.pyplot as plt
import numpy as np
from shared import Adam, Model, clip, softmax_loss, squared_loss, uniform

import fastrnn

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.55"


def diagram(axis, title, inputs, outputs, layers=None):
    """A layer over its steps: inputs below, outputs above; an empty text stands for zeros, and None for nothing."""
    for t, (below, above) in enumerate(zip(inputs, outputs, strict=True)):
        colour = BLUE if layers is None else (BLUE, GREEN)[layers[t]]
        box = {"boxstyle": "square,pad=0.45", "facecolor": colour, "edgecolor": "none"}
        axis.text(t, 1, "$h$", color="white", ha="center", va="center", bbox=box)
        if t:
            axis.annotate("", (t - 0.22, 1), (t - 0.78, 1), arrowprops={"arrowstyle": "->", "color": "0.3"})
        if below is not None:
            axis.text(t, 0, below or "0", color="black" if below else GREY, ha="center", va="center")
            axis.annotate("", (t, 0.7), (t, 0.2), arrowprops={"arrowstyle": "->", "color": "0.3"})
        if above is not None:
            axis.text(t, 2, above, color=ORANGE, ha="center", va="center")
            axis.annotate("", (t, 1.8), (t, 1.3), arrowprops={"arrowstyle": "->", "color": "0.3"})
    axis.set(xlim=(-0.6, len(inputs) - 0.4), ylim=(-0.4, 2.4), title=title)
    axis.axis("off")


def figure(ratio=(1, 1)):
    return plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained", width_ratios=ratio)[1]


# %%
# One to one
# ----------
# One input, one output: a sequence of a single step. We ask for the blood pressure (low, normal or high) of a person
# whose height, weight and age are known. The people are invented: their pressure rises with age and with weight for
# their height, and some chance is added that no model can know.

rng = np.random.default_rng(0)
LEVELS = ["low", "normal", "high"]


def people(count):
    """Height in m, weight in kg, age in years; the level; and the level without the part that is chance."""
    height, age = rng.normal(1.7, 0.1, count), rng.uniform(18, 85, count)
    bmi = rng.normal(25, 4, count)
    expected = 122 + 0.5 * (age - 50) + 1.5 * (bmi - 25)  # mmHg
    levels = np.digitize([expected + rng.normal(0, 4, count), expected], [110, 135])
    features = np.stack([(height - 1.7) / 0.1, (bmi * height**2 - 72) / 14, (age - 50) / 20], axis=-1)
    return features[np.newaxis].astype("float32"), levels[:1], levels[1:]  # (1, B, 3), (1, B), (1, B)


person_model = Model("rnn", I=3, H=32, O=3, rng=rng)
for _ in range(400):
    x, level, _ = people(64)
    person_model.learn(x, level)

x, level, best = people(2000)
one_to_one = (person_model(x).argmax(-1) == level).mean()
one_to_one_best = (best == level).mean()
print(
    f"one to one: {one_to_one:.1%} of 2000 new people are right, {one_to_one_best:.1%} for one who knows all but chance"
)

left, right = figure()
diagram(left, "one to one", ["height, weight, age"], ["low, normal or high"])
grid = np.stack(np.meshgrid(np.linspace(-2.5, 2.5, 150), np.linspace(-1.6, 1.75, 150)), axis=-1).reshape(1, -1, 2)
grid = np.concatenate([np.zeros_like(grid[..., :1]), grid], axis=-1).astype("float32")  # of average height
answers = person_model(grid).argmax(-1).reshape(150, 150)
axes = 14 * grid[0, :150, 1] + 72, 20 * grid[0, ::150, 2] + 50
right.contourf(*axes, answers, levels=[-0.5, 0.5, 1.5, 2.5], colors=["#9ecae1", "#f0f0f0", "#fdae6b"])
for name, place in zip(LEVELS, [(48, 25), (72, 48), (98, 78)]):
    right.text(*place, name, ha="center")
right.set(xlabel="weight (kg)", ylabel="age (years)", title="what the model says at 1.70 m")
plt.show()

# %%
# One to many
# -----------
# One vector goes in at the first step, and zeros after it. All that comes out later is made by the state. The vector
# says how high and how fast a wave is to be; the outputs are the wave.

T = 24


def waves(count):
    """x: (height, speed) at step 0, then zeros: (T, B, 2). The waves: (T, B, 1)."""
    height, speed = rng.uniform(0.3, 1, count), rng.uniform(0.2, 0.8, count)
    x = np.zeros((T, count, 2), "float32")
    x[0, :, 0], x[0, :, 1] = height, speed
    return x, (height * np.sin(speed * np.arange(T)[:, np.newaxis]))[..., np.newaxis].astype("float32")


wave_model = Model("gru", I=2, H=32, O=1, rng=rng)
for step in range(1000):
    wave_model.adam.rate = 0.02 * (1 - step / 1000)  # smaller and smaller steps end nearer to the best weights
    wave_model.learn(*waves(32), loss=squared_loss)

x, wave = waves(500)
drawn = wave_model(x)
one_to_many = np.sqrt(np.mean((drawn - wave) ** 2) / np.mean(wave**2))
print(f"one to many: the error is {one_to_many:.1%} of the waves (root mean square)")

left, right = figure()
diagram(left, "one to many", ["$v$", "", "", "", ""], [f"$o_{t}$" for t in range(1, 6)])
for row, colour in zip(np.argsort(x[0, :, 1])[[50, 250, 450]], (BLUE, ORANGE, GREEN)):  # slow, middling, fast
    label = f"height {x[0, row, 0]:.1f}, speed {x[0, row, 1]:.1f}"
    right.plot(wave[:, row], color=colour, alpha=0.4, linewidth=5)
    right.plot(drawn[:, row], color=colour, linewidth=1.5, label=label)
right.set(xlabel="step", ylabel="output", title="wanted (pale) and made", ylim=(-1.1, 1.8))
right.legend(fontsize="small", loc="upper right")
plt.show()

# %%
# Many to one
# -----------
# A sentence goes in word by word, and one answer is asked for at its end: does it speak well of something, or badly?
# A "not" turns the meaning round, and a second "not" turns it back, so the last word alone does not tell: the layer
# must keep track. The sentences have different lengths. ``fastrnn.pad`` puts them into one array, and ``lengths=``
# says where each one ends; ``return_sequences=False`` asks for the output of each one's last step alone.
#
# Words are integers here. Each stands for a row of an *embedding*, a matrix (V, I) that is trained as well.

GOOD, BAD = ["good", "great", "lovely", "clever"], ["bad", "awful", "dull", "silly"]
STARTS = ["", "i think that ", "i do not think that "]
NOUNS, ADVERBS = ["film", "book", "play", "song", "plot"], ["", "very ", "really ", "quite ", "so "]
sentences = [
    (f"{start}the {noun} was {no}{adverb}{word}", int((word in GOOD) ^ ("not" in start) ^ (no != "")))
    for start in STARTS
    for noun in NOUNS
    for no in ("", "not ")
    for adverb in ADVERBS
    for word in GOOD + BAD
]
vocabulary = sorted({word for sentence, _ in sentences for word in sentence.split()})
order = rng.permutation(len(sentences))
new, known = order[:300], order[300:]  # the model never learns from the new ones


def batch(chosen):
    ids = [np.array([vocabulary.index(word) for word in sentences[i][0].split()]) for i in chosen]
    x, lengths = fastrnn.pad(ids)
    return x, np.array([sentences[i][1] for i in chosen]), lengths


embedding = rng.normal(size=(len(vocabulary), 8)).astype("float32")
sentence_model = Model("gru", I=8, H=32, O=2, rng=rng, embedding=embedding)
for _ in range(250):
    x, label, lengths = batch(rng.choice(known, 32))
    sentence_model.learn(x, label, lengths=lengths, return_sequences=False)

x, label, lengths = batch(new)
many_to_one = (sentence_model(x, lengths=lengths, return_sequences=False).argmax(-1) == label).mean()
print(f"many to one: {many_to_one:.1%} of {len(new)} sentences that it has never seen; lengths {set(lengths.tolist())}")

left, right = figure((5, 4))
words = "the film was not so good".split()
diagram(left, "many to one", words, [None] * 5 + ["bad"])
said = ["the film was not so good", "i do not think that the play was not bad", "i think that the song was great"]
for sentence, colour in zip(said, (BLUE, ORANGE, GREEN)):
    x = np.array([vocabulary.index(word) for word in sentence.split()])[:, np.newaxis]
    logits = sentence_model(x)[:, 0]
    right.plot(1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), "o-", color=colour, label=sentence)
right.set(
    xlabel="word (steps)", ylabel="probability of good", ylim=(-0.05, 1.75), title="if it were asked after each word"
)
right.set_yticks([0, 0.5, 1])
right.legend(fontsize="small", loc="upper left")
plt.show()

# %%
# Only the last point of each line is an answer. The model has never been told what to say in the middle of a sentence.

# %%
# Many to many, step by step
# --------------------------
# An output for every input, at once. Each word gets a tag: what kind of word is it? Some words are a noun in one
# place and a verb in another ("they watch the play", "we play the watch"), so the word alone is not enough; what came
# before decides. ``word_alone`` below is the best that a list of words with one tag each can do.

TAGS = ["DET", "PRON", "ADJ", "NOUN", "VERB"]
KINDS = {
    "DET": ["the", "a"],
    "PRON": ["they", "we"],
    "ADJ": ["big", "old", "red"],
    "NOUN": ["dog", "house", "play", "watch", "walk", "light"],
    "VERB": ["see", "like", "play", "watch", "walk", "light"],
}
words = sorted({word for kind in KINDS.values() for word in kind})


def tagged(count):
    """Sentences as words (T, B), tags (T, B) with -1 past the end, and lengths."""

    def thing():
        return ["DET"] + ["ADJ"] * rng.integers(0, 3) + ["NOUN"]

    def sentence():
        return (["PRON"] if rng.random() < 0.5 else thing()) + ["VERB"] + thing()

    tags = [sentence() for _ in range(count)]
    ids = [np.array([words.index(rng.choice(KINDS[tag])) for tag in row]) for row in tags]
    x, lengths = fastrnn.pad(ids)
    wanted = np.full(x.shape, -1)
    for row, tag in enumerate(tags):
        wanted[: len(tag), row] = [TAGS.index(name) for name in tag]
    return x, wanted, lengths


tag_model = Model("rnn", I=8, H=32, O=5, rng=rng, embedding=rng.normal(size=(len(words), 8)).astype("float32"))
for _ in range(200):
    x, tags, lengths = tagged(32)
    tag_model.learn(x, tags, lengths=lengths)

x, tags, lengths = tagged(500)
step_by_step = (tag_model(x, lengths=lengths).argmax(-1) == tags)[tags >= 0].mean()
counts = np.array([[np.sum((x == word) & (tags == tag)) for tag in range(len(TAGS))] for word in range(len(words))])
word_alone = counts.max(-1).sum() / counts.sum()
print(f"step by step: {step_by_step:.1%} of the tags are right; by the word alone {word_alone:.1%}")

axis = plt.subplots(figsize=(6, 3.2), layout="constrained")[1]
sentence = "they watch the old watch".split()
given = tag_model(np.array([words.index(word) for word in sentence])[:, np.newaxis])[:, 0].argmax(-1)
diagram(axis, "many to many, step by step (tags are the model's)", sentence, [TAGS[tag] for tag in given])
plt.show()

# %%
# Many to many, with a delay
# --------------------------
# Here no output can be right before the last input is known: write a word backwards. One layer, the *encoder*, reads
# the word; only its last state goes on. Another layer, the *decoder*, begins with that state and writes.
#
# In training the decoder is told the letter that it should have written a step before. This is *teacher forcing*.
# When it runs free, it gets the letter that it did write. A special sign, ``<``, tells it to begin.
#
# The decoder's pullback gives the gradient of the state that it began with. That is the gradient of the encoder's
# last state, so it goes into the encoder's pullback as ``dstate``.

ALPHABET = "abcdef"
START = len(ALPHABET)
H = 64
rng = np.random.default_rng(0)
spelled = rng.permutation([[i, j, k, m] for i in range(6) for j in range(6) for k in range(6) for m in range(6)]).T
new, known = spelled[:, :200], spelled[:, 200:]  # (4, B): the new words are never learnt from

encoder = fastrnn.GRUParams(
    uniform(rng, H, weight_ih=(3 * H, 6), weight_hh=(3 * H, H), bias_ih=3 * H), embedding="one-hot"
)
decoder = fastrnn.GRUParams(
    uniform(rng, H, weight_ih=(3 * H, 7), weight_hh=(3 * H, H), bias_ih=3 * H), embedding="one-hot"
)
head = uniform(rng, H, head=(6, H))
adams = [Adam(0.01) for _ in range(3)]


def learn(word):
    """One step of training with words (4, B)."""
    global encoder, decoder, head
    wanted = word[::-1]
    told = np.concatenate([np.full_like(wanted[:1], START), wanted[:-1]])  # teacher forcing
    (_, h), back_encoder = fastrnn.vjp(word, encoder)
    (y, _), back_decoder = fastrnn.vjp(told, decoder, h)
    loss, d_logits = softmax_loss(y @ head["head"].T, wanted)
    of_decoder = back_decoder(d_logits @ head["head"], wrt=["weights", "state"])
    of_encoder = back_encoder(dstate=of_decoder.state, wrt=["weights"])
    encoder = encoder.with_weights(adams[0](encoder.weights, clip(of_encoder.weights, 1)))
    decoder = decoder.with_weights(adams[1](decoder.weights, clip(of_decoder.weights, 1)))
    head = adams[2](head, {"head": np.tensordot(d_logits, y, axes=([0, 1], [0, 1]))})
    return loss


def write(word, count=4):
    """The decoder runs free: each letter that it writes is its next input."""
    h = fastrnn.gru(word, encoder)[1]
    letter, written = np.full(word.shape[1], START), []
    for _ in range(count):
        y, h = fastrnn.gru(letter[np.newaxis], decoder, h)
        letter = (y[0] @ head["head"].T).argmax(-1)
        written.append(letter)
    return np.array(written)


losses = [learn(known[:, rng.choice(known.shape[1], 64)]) for _ in range(300)]
delayed = (write(new) == new[::-1]).all(0).mean()
print(f"with a delay: {delayed:.1%} of {new.shape[1]} new words are backwards, letter by letter")
for word, back in list(zip(new.T, write(new).T))[:4]:
    print("".join(ALPHABET[i] for i in word), "->", "".join(ALPHABET[i] for i in back))

left, right = figure((5, 3))
title = "many to many, with a delay: encoder (blue), decoder (green)"
diagram(left, title, [*"face", "<", *"eca"], [None] * 4 + [*"ecaf"], layers=[0] * 4 + [1] * 4)
right.plot(losses, color=BLUE)
right.set(xlabel="step of training", ylabel="loss (nats a letter)", yscale="log", title="training with teacher forcing")
plt.show()

# %%
# Exercises
# ---------
# 1. Ask the trained model about sentences with two or three times "not" in places where it has not met them: "the
#    film was not not bad". Does it still count right? (Hint: print the probability of "good" after each word.)
# 2. Make the words to reverse six letters long, with H = 16. (Hint: one state must hold the whole word. Count how
#    many letters are wrong at each place; attention was invented for this.)
# 3. Take away teacher forcing: tell the decoder ``<`` at every step. (Hint: it still learns, since the state alone
#    says what to write. Which tasks need the letter before?)
