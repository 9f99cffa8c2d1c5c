"""Samples of arrays, which show later whether somebody has written to them."""
from libc.stdint cimport uint32_t, uint64_t

ctypedef fused word:
    uint32_t
    uint64_t


cdef struct Walk:
    const char *start
    Py_ssize_t n, wrap       # elements, and after how many of them `back` is added
    ptrdiff_t step, back     # in bytes


cdef Walk walk_of(cnp.ndarray array):
    """A walk along the longer axis that goes round the shorter one: element k is at (k, k mod n) or (k mod n, k).

    It meets every row and every column, with as few elements as can. A vector is walked whole.
    """
    cdef Walk walk
    cdef ptrdiff_t longer = array.strides[0], shorter = 0
    walk.start = <const char *>cnp.PyArray_DATA(array)
    walk.n = walk.wrap = array.shape[0]
    if array.ndim == 2:
        walk.wrap, shorter = array.shape[1], array.strides[1]
    if walk.wrap > walk.n:
        walk.n, walk.wrap, longer, shorter = walk.wrap, walk.n, shorter, longer
    if walk.wrap == 0:
        walk.n = 0
    walk.step = longer + shorter
    walk.back = -shorter * walk.wrap
    return walk


cdef inline word compare(Walk walk, word *copy, bint keep) noexcept nogil:
    """The bits in which elements differ from their copies; with `keep` they are copied first."""
    cdef const char *at = walk.start
    cdef ptrdiff_t step = walk.step  # a local variable, which writes to `copy` can't reach
    cdef Py_ssize_t left = walk.n, count, k
    cdef word differ = 0
    while left > 0:
        count = min(left, walk.wrap)
        if keep:
            for k in range(count):
                copy[k] = (<const word *>(at + k * step))[0]
        else:  # outside of the loop: compilers leave it in
            for k in range(count):
                differ |= copy[k] ^ (<const word *>(at + k * step))[0]
        at += count * step + walk.back
        copy += count
        left -= count
    return differ


@cython.final
cdef class Samples:
    """One number or more of each row and column of arrays of one dtype, with one or two axes; it keeps the arrays."""

    cdef object __weakref__
    cdef list arrays
    cdef Walk *walks
    cdef char *copies
    cdef Py_ssize_t itemsize

    def __cinit__(self, list arrays):
        cdef Py_ssize_t i, n = len(arrays), elements = 0
        self.arrays = arrays
        self.itemsize = arrays[0].itemsize if n else 4
        self.walks = <Walk *>malloc(max(n, 1) * sizeof(Walk))
        if self.walks == NULL:
            raise MemoryError
        for i in range(n):
            if arrays[i].ndim not in (1, 2) or arrays[i].itemsize != self.itemsize or self.itemsize not in (4, 8):
                raise ValueError("arrays: expected one or two axes, and one dtype of 4 or 8 bytes")
            self.walks[i] = walk_of(arrays[i])
            elements += self.walks[i].n
        self.copies = <char *>malloc(max(elements * self.itemsize, 1))
        if self.copies == NULL:
            raise MemoryError
        self.same(True)

    def __dealloc__(self):
        free(self.walks)
        free(self.copies)

    cdef bint same(self, bint keep) noexcept:
        cdef char *copy = self.copies
        cdef Py_ssize_t i
        for i in range(len(self.arrays)):
            if self.itemsize == 4:
                if compare[uint32_t](self.walks[i], <uint32_t *>copy, keep):
                    return False
            elif compare[uint64_t](self.walks[i], <uint64_t *>copy, keep):
                return False
            copy += self.walks[i].n * self.itemsize
        return True

    def are_current(self):
        """Whether the arrays still hold these numbers, bit for bit."""
        return self.same(False)
