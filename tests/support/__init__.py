"""What tests share. No test imports another test: what two of them need is here.

environment.py    what this machine and installation have: targets, packages, a C compiler
profiles.py       how much hypothesis searches
cells.py          what tests know of each cell, in one table
cases.py          layers and calls of them: by hand, at random, and as a strategy of hypothesis
narrow.py         layers of halves and bytes in NumPy, to the bit
gradients.py      calls there and back, here and in the reference; how far rounding may take a gradient
oracle.py         the golden arrays, and how far rounding may take a result from the reference
errors.py         wrong calls and their messages, as tables
splits.py         layers of every size at which two threads share a call
callers.py        prepared calls, and threads that make them
c_programs.py     programs in C, with sanitizers and the scalar kernels
apart.py          code and functions in processes of their own
preloaded.py      c/fault_preload.c from within such a process: counts and refusals
usage.py          memory, threads and files of this process
layer_files.py    files that `load` reads
command_line.py   the command `fastrnn`, its files and its output
torch_models.py, keras_layers.py, onnx_models.py    models of these frameworks; each needs its package
torch_gradients.py    calls of PyTorch's layers with all of their gradients
gallery.py        pages of the gallery, run
onnx_chains.py    random chains of ONNX operators that end in a given array

`tests` is on the path of pytest (`pythonpath` in pyproject.toml), of the scripts in it, and of each process that
`apart.run_python` starts.
"""
