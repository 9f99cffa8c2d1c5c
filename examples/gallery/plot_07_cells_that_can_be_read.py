r"""
Cells that can be read
======================

A language model is asked for one thing only: the next character. Karpathy et al. (2015) found cells in such models that
a person can read: one that is on inside quotes, one that counts the position in the line. Nobody taught the model
quotes. It needs them to guess what comes next.

This page looks for such cells in the model of ``examples/char_lm``: two LSTM layers of 320 units, trained on Python
source text. It finds them by search. For a question with an answer :math:`a_t` at each character, such as "are we
inside quotes?", the best of the 640 cells is the one with the largest correlation, of either sign:

.. math:: \rho = \frac{\mathrm{cov}(c, a)}{\sigma_c\, \sigma_a}
"""

import re

import matplotlib.pyplot as plt
import numpy as np
from shared import example

import fastrnn

# %%
# The model reads
# ---------------
# The text is that of files which the model has not seen in training. Half of them are for the search; the other
# half tell how good a cell is. Otherwise the best of 640 cells would look good by luck.
#
# ``fastrnn.trace`` runs over tokens, 400 characters at a time, and the state is carried over.

char_lm = example("char_lm/model.py")
model = char_lm.load_model()
params = fastrnn.LSTMParams(model.lstm, embedding=model.embedding)

T = 3600
texts = [text for text in char_lm.load_heldout() if len(text) >= T]
tokens = np.array([char_lm.encode(text[:T]) for text in texts]).T  # (T, B)


def cell_states(tokens):
    """The cell states c of both layers, (T, B, 640)."""
    state, chunks = fastrnn.lstm(np.full((1, tokens.shape[1]), char_lm.encode(char_lm.SEPARATOR)), params)[1], []
    for start in range(0, len(tokens), 400):
        trace = fastrnn.trace(tokens[start : start + 400], params, state)
        state = trace.state
        chunks.append(np.concatenate([trace["c_l0"], trace["c_l1"]], axis=-1))
    return np.concatenate(chunks)


c = cell_states(tokens)
print(f"{len(texts)} files, {tokens.size:,} characters, {c.shape[-1]} cells")

# %%
# The questions
# -------------
# A regular expression finds the strings and comments, another one the conditions. After the last character of a
# span the answer is no: the model has seen that it is over.

STRINGS = re.compile(
    r"""(?P<comment>\#[^\n]*)"""
    r"""|(?P<docstring>\"{3}.*?\"{3}|'{3}.*?'{3})"""
    r"""|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
    re.DOTALL,
)
CONDITION = re.compile(r"^ *(?:if|elif|while)\b([^\n]*?):", re.MULTILINE)


def answers(text):
    """The right answers after each character."""
    yes = {name: np.zeros(len(text)) for name in ("string", "docstring", "comment", "condition")}
    code = text
    for span in STRINGS.finditer(text):
        yes[span.lastgroup][span.start() : span.end() - 1] = 1
        code = code[: span.start()] + re.sub(r"[^\n]", "x", span[0]) + code[span.end() :]  # no brackets in strings
    for span in CONDITION.finditer(code):
        yes["condition"][span.start(1) - 1 : span.end(1)] = 1
    brackets = np.cumsum([(each in "([{") - (each in ")]}") for each in code])
    lines = [line + "\n" for line in text.split("\n")]
    column = np.concatenate([np.arange(1, len(line) + 1) % len(line) for line in lines])[: len(text)]
    indentation = np.repeat([len(line) - len(line.lstrip(" ")) for line in lines], [len(line) for line in lines])
    return {
        "inside quotes": yes["string"],
        "inside a docstring": yes["docstring"],
        "inside brackets": brackets > 0,
        "inside the condition of an if": yes["condition"],
        "position in the line": column,
        "indentation of the line": indentation[: len(text)],
    }


each = [answers(text) for text in texts]
asked = {name: np.array([of_text[name][:T] for of_text in each], float).T for name in each[0]}  # (T, B)

# %%
# The search
# ----------
# Yes and no are compared with tanh(c), which is what a cell shows where its output gate is open. Counts are
# compared with c itself, since tanh flattens what is large.

COUNTS = ("position in the line", "indentation of the line")
search, check = np.arange(len(texts)) % 2 == 0, np.arange(len(texts)) % 2 == 1


def correlations(values, answer):
    """Of each cell (.., 640) with the answers (..)."""
    z, a = values.reshape(-1, values.shape[-1]), answer.ravel()
    z, a = z - z.mean(axis=0), a - a.mean()
    spread = np.maximum(z.std(axis=0) * a.std(), 1e-9)  # a cell that never moves correlates with nothing
    return a @ z / len(a) / spread


shown = np.tanh(c)
found, best_of_each = {}, np.zeros(c.shape[-1])
for name, answer in asked.items():
    values = c if name in COUNTS else shown
    at_search = correlations(values[:, search], answer[:, search])
    best_of_each = np.maximum(best_of_each, abs(at_search))
    cell = int(np.argmax(abs(at_search)))
    at_check = correlations(values[:, check][..., [cell]], answer[:, check])[0]
    found[name] = cell, float(at_search[cell]), float(at_check)
    print(f"{name:29}  layer {cell // 320} cell {cell % 320:3}  correlation {at_search[cell]:5.2f}, ", end="")
    print(f"on the other files {at_check:5.2f}")

# %%
# As a guess: "yes" where the cell is on yes' side of the middle between its mean at yes and its mean at no. The
# middle comes from the files of the search. Shares of right answers are those on the others, of all yes and of all
# no.

right = {}
for name in [name for name in asked if name not in COUNTS]:
    values, answer = shown[..., found[name][0]], asked[name] > 0
    on, off = values[:, search][answer[:, search]].mean(), values[:, search][~answer[:, search]].mean()
    guess = (values - (on + off) / 2) * np.sign(on - off) > 0
    yes, no = (float(np.mean((guess == answer)[:, check][answer[:, check] == kind])) for kind in (True, False))
    right[name] = yes, no
    print(f"{name:29}  {100 * yes:3.0f} % of yes, {100 * no:3.0f} % of no")

# %%
# Drawn over the text
# -------------------
# The text is from the files of the second half: the 12 lines where most happens. Each yes-or-no answer changes there,
# and the one that changes least does so more often than in other lines. A character has the colour of the cell after it
# was read.


def busiest(lines=12):
    """File, first and last character of these lines."""
    best = (-1, 0, 0, 0)
    for file in np.flatnonzero(check):
        ends = np.flatnonzero(np.array(list(texts[file][:T])) == "\n") + 1
        for begin, end in zip(ends[:-lines], ends[lines:]):
            spans = [asked[name][begin:end, file] for name in right]
            changes = min(np.count_nonzero(np.diff(span)) for span in spans)
            best = max(best, (changes, int(file), int(begin), int(end)))
    return best[1:]


def draw(axes, text, values, title):
    lines = text.rstrip("\n").split("\n")
    grid = np.full((len(lines), 80), np.nan)
    row = column = 0
    for letter, value in zip(text, values):
        if letter == "\n":
            row, column = row + 1, 0
        else:
            grid[row, column] = value
            axes.text(column + 0.5, row + 0.5, letter, ha="center", va="center", family="monospace", fontsize=8.5)
            column += 1
    limit = np.nanmax(abs(grid))
    axes.pcolormesh(grid, cmap="PuOr", vmin=-limit, vmax=limit, alpha=0.55)
    axes.set(title=title, xticks=[], yticks=[])
    axes.invert_yaxis()


file, begin, end = busiest()
names = ["inside quotes", "inside a docstring", "inside the condition of an if", "position in the line"]
figure, panels = plt.subplots(len(names), 1, figsize=(9, 10), layout="constrained")
for axes, name in zip(panels, names):
    cell, at_search, _ = found[name]
    values = (c if name in COUNTS else shown)[begin:end, file, cell]
    draw(axes, texts[file][begin:end], values * np.sign(at_search), f"{name}: layer {cell // 320}, cell {cell % 320}")
plt.show()

# %%
# Purple means yes, or far to the right; orange means no. Look at the apostrophe of "don't" in the first picture:
# the cell of quotes is undecided in a docstring, and takes the apostrophe for the end of a string. And the cell of
# conditions is on in the head of a ``for`` too, so its name is ours, not the model's.
#
# A cell that can be read is rare. Most of the 640 correlate with no question of ours, and the one for conditions
# only roughly. What a model knows is spread over many cells, and the search finds those where it is not.

print(f"{np.mean(best_of_each > 0.5):.0%} of the cells correlate above 0.5 with one of the six questions")

figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.hist(best_of_each, bins=np.linspace(0, 1, 41), color="#31688e")
axes.set(xlabel="largest correlation with one of the six questions", ylabel="cells", title="Few cells can be read")
plt.show()

# %%
# Exercises
# ---------
# 1. Ask another question: inside a comment, after ``self.``, in the first line of a function. Add a row to
#    ``answers``.
# 2. Take h in the place of c (``trace["h_l0"]``). The correlations get smaller. Why? (What does the output gate
#    do?)
# 3. Read a file of your own, in another language. Does the cell of quotes still work? What of apostrophes in
#    English?
