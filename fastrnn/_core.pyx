# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The binding: it owns memory, checks what every call must check, and makes one call into C.

It is one extension, since two would have two pools of threads; its text stands in this file and six more.
C's declarations are in `_core.pxd`.

(a) `_core_params.pxi`: `Packed` holds the weights of one target, made by `params.py`.
(b) `_core_call.pxi`: functions of cells check with a few comparisons. Where one fails, `_check.py` finds the words and
    raises. The GIL is released around C, but where C is back sooner than releasing it pays.
(c) `_core_stream.pxi`: `Stream` keeps what a call makes, so a step creates no object.
(d) `_core_pool.pxi`: `StreamPool` does so for streams that come and go.
(e) `_core_samples.pxi`: `Samples` shows whether arrays of another library have changed since they were packed.
(f) `_core_plan.pxi`: what the plan knows of the machine, and the ways that it chooses from.
(g) Nothing here computes a number of a result.
"""
cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject, PyTypeObject
from libc.stddef cimport ptrdiff_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

import operator
import os
import threading

import numpy as np

from fastrnn import _check, _check_streams, _keywords

cnp.import_array()


cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() noexcept
    PyObject *PyErr_Occurred() noexcept
    long PyLong_AsLongAndOverflow(object number, int *overflow) noexcept
    int PyErr_CheckSignals() noexcept  # leaves its error set: of cpython.exc it would be raised at once
    PyObject *PyTuple_GET_ITEM(PyObject *, Py_ssize_t) noexcept  # of cpython.tuple it would be one more reference
    Py_ssize_t Py_REFCNT(PyObject *) noexcept
    long long PyLong_AsLongLongAndOverflow(object, int *) noexcept  # of an int it raises nothing


cdef extern from "numpy/arrayobject.h":
    PyTypeObject PyArray_Type
    bint PyArray_IsIntegerScalar(object)
    object PyArray_New(PyTypeObject *, int, cnp.npy_intp *, int, cnp.npy_intp *, void *, int, int, PyObject *)


cdef extern from *:
    """
    #if defined(__clang__)
    #define FRNN_COMPILER "clang " __clang_version__
    #else
    #define FRNN_COMPILER "gcc " __VERSION__
    #endif
    """
    const char *FRNN_COMPILER


MOST_THREADS = FRNN_MOST_THREADS
COMPILER = FRNN_COMPILER.decode().strip()
CELLS = {frnn_cell_name(<frnn_cell><int>i).decode(): i for i in range(FRNN_CELLS)}
# Gates and states of each cell, as C has them.
CELL_SIZES = {
    name: (frnn_cell_gates(<frnn_cell><int>i), frnn_cell_states(<frnn_cell><int>i)) for name, i in CELLS.items()
}
FUNCTIONS = {
    "tanh": FRNN_TANH,
    "sigmoid": FRNN_SIGMOID,
    "relu": FRNN_RELU,
    "hard_sigmoid": FRNN_HARD_SIGMOID,
    "softsign": FRNN_SOFTSIGN,
    "linear": FRNN_LINEAR,
}


# Targets of this build with whether each can be used here: (name, usable, base), best first. Asked once: under a
# hypervisor the question takes tens of microseconds.
TARGETS = tuple([
    (
        frnn_target_name(frnn_target_at(i)).decode(),
        bool(frnn_target_usable(frnn_target_at(i))),
        frnn_target_base(frnn_target_at(i)).decode(),
    )
    for i in range(frnn_target_count())
])

PRECISIONS = {None: FRNN_FULL, "float16": FRNN_FLOAT16, "int8": FRNN_INT8, "int8_fast": FRNN_INT8_FAST}


cdef c_bool interrupted(void *context) noexcept with gil:
    return PyErr_CheckSignals() != 0  # the error stays set until the call is back, and is raised there


# Signal handlers run in one thread alone. Others ask for nothing: an interpreter that is about to end gives them the
# GIL no more and ends them where they ask for it, which must not be in the middle of a call.
cdef unsigned long main_thread = threading.main_thread().ident
cdef unsigned long generation = 1  # of this process: a child's is one more than its parent's


def after_fork():
    global main_thread, generation
    main_thread = PyThread_get_thread_ident()
    generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=after_fork)


include "_core_params.pxi"
include "_core_call.pxi"
include "_core_gradient.pxi"
include "_core_functions.pxi"  # setup.py writes it: rnn, lstm and so on, one a row of csrc/cells.def
include "_core_stream.pxi"
include "_core_pool.pxi"
include "_core_samples.pxi"
include "_core_plan.pxi"
