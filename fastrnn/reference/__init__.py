"""What fastrnn computes, in plain float64 NumPy: one short function a cell, and one for its gradients.

Three cells (`rnn_cell`, `lstm_cell`, `gru_cell`) are the equations; `rnn`, `lstm` and `gru` loop them over layers,
directions and steps. The backward pass of each cell (`rnn_cell_backward`, ...) stands beside the forward one, and `vjp`
loops it over steps, directions and layers in reverse: backpropagation through time [8]_. They take a mapping of weights
and check nothing: a page to read, and the oracle of the tests. The equations are in `cells.py`, the functions that
they name in `activations.py`, the loops in `layers.py`.

Gate order and names are PyTorch's. ``@`` is the matrix product, ``*`` is element by element. Letters: T steps, B batch
rows, I inputs, H hidden units, P projected units, L layers, D directions (1 or 2), G gates (RNN 1, LSTM 4, GRU 3);
Hout is P with a projection, else H. The weights of layer k; those of the direction that runs backwards end in
``_reverse``, and a single cell's names (``weight_ih``, without ``_l0``) mean layer 0:

=========================  ===========  ====================================================
``weight_ih_l{k}``         (G*H, I)     input weights W; I is D*Hout from the second layer on
``weight_hh_l{k}``         (G*H, Hout)  recurrent weights U
``bias_ih_l{k}``           (G*H,)       bias b, optional
``bias_hh_l{k}``           (G*H,)       bias d, optional
``weight_hr_l{k}``         (P, H)       LSTM: projection V, optional
``weight_peephole_l{k}``   (3*H,)       LSTM: peepholes p of i, f and o, optional
``embedding``              (V, I)       rows that x names where it is of integers, optional
=========================  ===========  ====================================================

An activation is a name in `ACTIVATIONS`, or (name, alpha, beta) for ``hard_sigmoid`` and ``linear``. `clip` bounds what
goes into the activation of every gate and candidate, bias and peephole included, to [-clip, clip].

The gradient of a number is that of the loss with respect to it, and is written with a d: ``dh``. Where a function has a
corner the gradient is 0: of ``relu`` at 0, of ``hard_sigmoid`` where it reaches 0 and 1, of `clip` at both bounds, as
PyTorch's ReLU, Hardsigmoid and Hardtanh have it.

References
----------
.. [1] Jeffrey L. Elman, "Finding structure in time", Cognitive Science 14, 1990.
.. [2] Sepp Hochreiter and Jürgen Schmidhuber, "Long short-term memory", Neural Computation 9, 1997.
.. [3] F. A. Gers, J. Schmidhuber and F. Cummins, "Learning to forget: continual prediction with LSTM",
   Neural Computation 12, 2000.
.. [4] F. A. Gers, N. N. Schraudolph and J. Schmidhuber, "Learning precise timing with LSTM recurrent networks",
   Journal of Machine Learning Research 3, 2002.
.. [5] H. Sak, A. Senior and F. Beaufays, "Long short-term memory recurrent neural network architectures for large
   scale acoustic modeling", Interspeech 2014.
.. [6] K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine translation",
   EMNLP 2014.
.. [7] The operators RNN, GRU and LSTM of the ONNX specification (`clip`, `input_forget`, the activations).
.. [8] Paul J. Werbos, "Backpropagation through time: what it does and how to do it", Proceedings of the IEEE 78, 1990.
.. [9] A. Graves and J. Schmidhuber, "Framewise phoneme classification with bidirectional LSTM and other neural network
   architectures", Neural Networks 18, 2005: the whole gradient of an LSTM, where [2]_ and [3]_ cut it at the gates.
"""

from .activations import ACTIVATIONS, DERIVATIVES
from .cells import gru_cell, gru_cell_backward, lstm_cell, lstm_cell_backward, rnn_cell, rnn_cell_backward
from .layers import Gradients, gru, lstm, rnn, vjp

__all__ = [
    "ACTIVATIONS",
    "DERIVATIVES",
    "Gradients",
    "gru",
    "gru_cell",
    "gru_cell_backward",
    "lstm",
    "lstm_cell",
    "lstm_cell_backward",
    "rnn",
    "rnn_cell",
    "rnn_cell_backward",
    "vjp",
]
