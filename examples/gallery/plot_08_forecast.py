r"""
A forecast
==========

What will the next value of a series be? A recurrent layer reads the values so far, and its head says what comes next:

.. math:: \hat v_{t+1} = V h_t + a, \qquad h_t = f(v_t, h_{t-1})

This page takes two real series: sunspots, which a layer can forecast, and prices of a stock index, which it cannot.
A number alone says little, so each layer stands beside two rivals that cost nothing. The *naive* forecast is that
tomorrow is as today. The *linear* one is a weighted sum of the last values, fitted by least squares:

.. math:: \hat v_{t+1} = a_0 + a_1 v_t + a_2 v_{t-1} + \dots + a_p v_{t-p+1}

Sources and licences of the series are in ``examples/gallery/data/SOURCES.md``.
"""

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import shared
from shared import Model, squared_loss

import fastrnn

DATA = Path(shared.__file__).parent / "data"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.6"

# %%
# Forecasters
# -----------
# Each one has two functions. ``fit`` learns from the past. ``forecast`` answers, for each time t, what was expected
# for t by one who knew the values before t.


class Naive:
    """As today, so tomorrow."""

    def fit(self, v):
        pass

    def forecast(self, v):
        return np.append(0, v[:-1])


class Linear:
    """A weighted sum of the last p values."""

    def __init__(self, p):
        self.p = p

    def rows(self, v):
        """1 and the p values before each time from p on."""
        return np.stack(
            [np.ones(len(v) - self.p), *(v[self.p - k : len(v) - k] for k in range(1, self.p + 1))], axis=-1
        )

    def fit(self, v):
        self.a = np.linalg.lstsq(self.rows(v), v[self.p :], rcond=None)[0]

    def forecast(self, v):
        return np.append(np.zeros(self.p), self.rows(v) @ self.a)


class Recurrent:
    """A layer of 16 units. Its input is the true value of today; with feedback, also what it had expected for today.

    It learns from a chunk of the series at a time, and goes over all of it `passes` times. When it learns again, with
    more of the past, it goes on from where it was, for a quarter of the passes of the time before.
    """

    def __init__(self, cell, passes, chunk, feedback=False, seed=0):
        self.model = Model(cell, I=1 + feedback, H=16, O=1, rng=np.random.default_rng(seed))
        self.passes, self.chunk, self.feedback = passes, chunk, feedback

    def inputs(self, v):
        """For each time what the layer reads: (T, 1, I)."""
        columns = [v, self.forecast(v)] if self.feedback else [v]
        return np.stack(columns, axis=-1)[:, np.newaxis].astype("float32")

    def fit(self, v):
        for _ in range(self.passes):
            x, wanted, state = self.inputs(v)[:-1], v[1:, np.newaxis, np.newaxis].astype("float32"), None
            for start in range(0, len(x), self.chunk):
                chunk = slice(start, start + self.chunk)
                state = self.model.learn(x[chunk], wanted[chunk], squared_loss, state)[1]
        self.passes = max(1, self.passes // 4)

    def forecast(self, v):
        if not self.feedback:
            return np.append(0, self.model(self.inputs(v[:-1]))[:, 0, 0])
        stream, expected = fastrnn.Stream(self.model.params), np.zeros(len(v), "float32")
        for t in range(len(v) - 1):  # step by step, since each output is part of the next input
            h = stream.step(np.array([v[t], expected[t]], "float32"))
            expected[t + 1] = self.model.outputs(h)[0]
        return expected


# %%
# Walk forward
# ------------
# Nobody may know the future. So each forecaster learns from the first part of the series, forecasts the next block of
# it one step at a time, gets the true value after each step, then learns from that block as well, and so on. All
# errors are those of values that it had not seen.


def walk_forward(v, first, forecaster, blocks=4):
    """Forecasts for times from `first` on."""
    edges = np.linspace(first, len(v), blocks + 1).astype(int)
    parts = []
    for start, end in itertools.pairwise(edges):
        forecaster.fit(v[:start])
        parts.append(forecaster.forecast(v[:end])[start:])
    return np.concatenate(parts)


def error(v, forecasts):
    """Root of the mean square, over the times that there are forecasts for."""
    return float(np.sqrt(np.mean((v[-len(forecasts) :] - forecasts) ** 2)))


# %%
# How long should a layer learn? Too long, and it knows the past by heart. That must be decided without a look at the
# years of the test: we hold back the last quarter of the first part, and take the number of passes that is best for a
# GRU there.


def choose_passes(v, first, candidates, chunk):
    past = v[:first]
    errors = [error(past, walk_forward(past, first * 3 // 4, Recurrent("gru", n, chunk), 1)) for n in candidates]
    return candidates[int(np.argmin(errors))]


def compare(v, first, p, passes, chunk):
    """Forecasts of all forecasters by name; layers three times, from different first weights."""
    forecasts = {"naive": [walk_forward(v, first, Naive())], f"linear, p = {p}": [walk_forward(v, first, Linear(p))]}
    for cell in ("rnn", "gru", "lstm"):
        for feedback in (False, True):
            name = cell.upper() + (", output fed back" if feedback else "")
            runs = (Recurrent(cell, passes, chunk, feedback, seed) for seed in range(3))
            forecasts[name] = [walk_forward(v, first, run) for run in runs]
    return forecasts


def table(v, forecasts, unit, scale):
    """Print all errors, and answer them relative to the naive one's."""
    errors = {name: [error(v, run) * scale for run in runs] for name, runs in forecasts.items()}
    naive = errors["naive"][0]
    for name, runs in errors.items():
        spread = f"  ({min(runs):.4g} to {max(runs):.4g})" if len(runs) > 1 else ""
        print(f"{name:23} {np.mean(runs):7.4g} {unit}, {np.mean(runs) / naive:.3f} of naive{spread}")
    return {name: np.array(runs) / naive for name, runs in errors.items()}


# %%
# Sunspots
# --------
# The number of spots on the sun rises and falls in some eleven years. We learn from 1700 on, and forecast each year
# from 1900 to 2008. Values are brought to mean 0 and deviation 1, by the years before 1900 alone.

years, spots = np.loadtxt(DATA / "sunspots.csv", delimiter=",", skiprows=1).T
first = int(np.searchsorted(years, 1900))
mean, deviation = spots[:first].mean(), spots[:first].std()
v = (spots - mean) / deviation
sun_passes = choose_passes(v, first, [25, 50, 100, 200, 400], chunk=len(v))
print("passes over the years:", sun_passes)
sun = compare(v, first, 9, sun_passes, chunk=len(v))
sun_errors = table(v, sun, "spots", deviation)

# %%
# Every layer makes about six tenths of the naive forecast's error. But so does the linear one, which was found long
# before recurrent layers were, and needs ten numbers. Is a layer better than that, or is it chance? Take the squared
# errors of both, year by year. The mean of their differences, divided by its standard error, is a number that chance
# alone brings to between -2 and 2 in about 95 of 100 cases (the test of Diebold and Mariano, 1995). Below -2 a layer is
# better by more than chance.


def scores(v, forecasts, rival):
    """For each run of each other forecaster, its score against the rival."""
    other, answers = forecasts[rival][0], {}
    truth = v[-len(other) :]
    for name in [name for name in forecasts if name != rival]:
        differences = [(truth - run) ** 2 - (truth - other) ** 2 for run in forecasts[name]]
        answers[name] = [float(d.mean() / (d.std() / np.sqrt(len(d)))) for d in differences]
        print(f"{name:23}", *(f"{score:5.1f}" for score in answers[name]))
    return answers


sun_scores = scores(v, sun, "linear, p = 9")

# %%
# The naive forecast is worse than the linear one by more than chance. The layers are level with it: their scores are
# between -2 and 2.

figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
axis.plot(years[first:], spots[first:], color="black", label="true")
axis.plot(years[first:], sun["GRU"][0] * deviation + mean, color=BLUE, label="GRU, a year before")
axis.plot(years[first:], sun["naive"][0] * deviation + mean, ":", color=ORANGE, label="naive")
axis.set(xlabel="year", ylabel="sunspots", ylim=(0, 260))
axis.legend(ncols=3, loc="upper left")
plt.show()

# %%
# Prices
# ------
# The S&P 500, a stock index, on 5031 days from 1999 to 2018. A price of tomorrow is the price of today times a factor
# near 1. So the series that we forecast is the change, in percent: 100 times the difference of the logarithms. The
# naive forecast, tomorrow's price is today's, is then a change of 0.


class NoChange(Naive):
    def forecast(self, v):
        return np.zeros(len(v))


price = np.loadtxt(DATA / "sp500.csv", delimiter=",", skiprows=1, usecols=1)
change = 100 * np.diff(np.log(price))
first = 2500
deviation = change[:first].std()
v = change / deviation
price_passes = choose_passes(v, first, [2, 5, 20], chunk=250)
print("passes over the days:", price_passes)
prices = compare(v, first, 5, price_passes, chunk=250)
prices["naive"] = [walk_forward(v, first, NoChange())]
price_errors = table(v, prices, "%", deviation)

# %%
# Nobody is far from the naive forecast, and chance explains what differences there are: no score is below -2.

price_scores = scores(v, prices, "naive")
better = [name for name, values in price_scores.items() if min(values) < -2]
print("better than the naive forecast by more than chance:", ", ".join(better) or "nobody")

# %%
# Beware of pictures like this one. The forecast seems to follow the price closely. It does so one day late: it is the
# price of the day before, and little else. Any such picture of prices must be compared with the naive forecast.

days = np.arange(-60, 0)
forecast = price[days - 1] * np.exp(prices["LSTM"][0][days] * deviation / 100)
follows = float(np.corrcoef(forecast, price[days - 1])[0, 1])
figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained", width_ratios=(1, 1.1))
axes[0].plot(days, price[days], color="black", label="true")
axes[0].plot(days, forecast, color=BLUE, label="LSTM, a day before")
axes[0].set(
    xlabel="trading days before the end of 2018", ylabel="S&P 500", title="It looks good, and it is worth nothing"
)
axes[0].legend()
names = [name.replace("linear, p = 9", "linear") for name in sun_errors]
for place, (errors, colour, label) in enumerate(((sun_errors, BLUE, "sunspots"), (price_errors, ORANGE, "prices"))):
    at = np.arange(len(names)) + 0.36 * (place - 0.5)
    axes[1].barh(at, [runs.mean() for runs in errors.values()], 0.34, color=colour, label=label)
axes[1].axvline(1, color="black", linewidth=1)
axes[1].set_yticks(range(len(names)), names)
axes[1].invert_yaxis()
axes[1].set(
    xlabel="error, relative to the naive forecast (less is better)", xlim=(0, 1.45), title="Errors beside the naive one"
)
axes[1].legend(loc="lower right")
plt.show()

# %%
# Exercises
# ---------
# 1. Let the GRU learn from the sunspots for 1000 passes. (Hint: its error on the past falls, that of the test rises.)
# 2. Forecast further: feed the output back in the place of the true value, ten years on. Does the linear forecaster
#    keep the cycle going? (Hint: a stable linear one dies away to its mean.)
# 3. Forecast how much prices will move, ``abs(change)``, in place of where to. (Hint: quiet days follow quiet days.
#    Here the naive forecast is easy to beat.)
