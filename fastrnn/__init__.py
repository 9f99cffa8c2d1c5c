"""fastrnn: RNN, LSTM and GRU layers on CPUs.

>>> import numpy as np, fastrnn
>>> rng = np.random.default_rng(0)
>>> weights = {"weight_ih_l0": rng.normal(size=(80, 8)), "weight_hh_l0": rng.normal(size=(80, 20))}
>>> params = fastrnn.LSTMParams(weights, dtype="float32")
>>> y, (h_n, c_n) = fastrnn.lstm(rng.normal(size=(100, 1, 8)).astype("float32"), params)
>>> y.shape
(100, 1, 20)
"""

try:
    from fastrnn import _core as _core
except ImportError as error:
    if "_core" not in str(error):
        raise
    raise ImportError(
        "fastrnn's extension is not built in the folder that it is imported from. If this is a checkout, run Python in "
        "another folder, where the installed fastrnn is found, or run `pip install -e .` here."
    ) from None

from fastrnn import reference as reference
from fastrnn.config import __version__, get_num_threads, set_num_threads, show_config, usable_targets
from fastrnn.functional import gru, lstm, rnn
from fastrnn.params import GRUParams, LSTMParams, RNNParams
from fastrnn.stream import Stream

__all__ = [
    "GRUParams",
    "LSTMParams",
    "RNNParams",
    "Stream",
    "__version__",
    "get_num_threads",
    "gru",
    "lstm",
    "rnn",
    "set_num_threads",
    "show_config",
    "usable_targets",
]
