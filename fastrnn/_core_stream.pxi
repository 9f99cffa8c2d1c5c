"""Streams: a step creates no object, since everything that it returns is made beforehand.

A step writes where the output of the last but one lies. Where an array of that output is still referred to, the slot
is moved to new memory first, so that an output which somebody keeps stays as it was.
"""


@cython.final
cdef class Block:
    """Memory that a slot was moved to. It is no array: a view of an output then refers to the output, not to this."""

    cdef void *data

    def __cinit__(self, size_t size):
        self.data = malloc(size)
        if self.data == NULL:
            raise MemoryError(f"no memory for an output of {size} bytes")

    def __dealloc__(self):
        free(self.data)


@cython.final
cdef class Memory:
    """A stream's memory. Outputs of steps keep it, and it keeps the weights; it knows nothing of a `Stream`.

    Arrays take no part in the search for cycles, so a stream that its own arrays kept would never be freed.
    """

    cdef frnn_stream *stream
    cdef Packed packed
    cdef tuple moved  # for each slot the block that it was moved to, or None

    def __cinit__(self, Packed packed not None, Py_ssize_t B):
        self.packed = packed
        self.moved = (None, None)
        if frnn_stream_new(packed.params, B, &self.stream) != FRNN_OK:
            raise MemoryError(f"no memory for a stream of B={B} rows")

    def __dealloc__(self):
        frnn_stream_free(self.stream)

    cdef int move_slot(self) except -1:
        """Moves the slot that is written next to new memory."""
        cdef Block memory = Block(frnn_stream_slot_bytes(self.stream))
        frnn_stream_move_slot(self.stream, memory.data)
        self.moved = replaced(self.moved, not frnn_stream_newest(self.stream), memory)
        return 0

    cdef cnp.ndarray output(self, int slot, int ndim, Py_ssize_t B):
        """What a step returns whose output is in a slot: an array that can't be written to."""
        cdef cnp.npy_intp[2] shape
        shape[0], shape[ndim - 1] = B, self.packed.output_size
        cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(
            ndim, shape, self.packed.type_num, <void *>frnn_stream_output(self.stream, slot)
        )
        cnp.PyArray_CLEARFLAGS(array, cnp.NPY_ARRAY_WRITEABLE)
        cnp.set_array_base(array, self if self.moved[slot] is None else self.moved[slot])
        return array


cdef tuple replaced(tuple of_slots, int slot, value):
    return (of_slots[0], value) if slot else (value, of_slots[1])


cdef inline bint is_kept(tuple outputs, int slot) noexcept:
    """Whether anything but the tuple refers to an output: a view of it, or a buffer, does so too."""
    return Py_REFCNT(PyTuple_GET_ITEM(<PyObject *>outputs, slot)) > 1


cdef inline size_t row_bytes(Packed packed) noexcept:
    """Of an output's row."""
    return packed.output_size * (4 if packed.type_num == cnp.NPY_FLOAT else 8)


cdef inline bint is_shaped(cnp.ndarray y, Packed packed, int ndim, Py_ssize_t rows) noexcept:
    """Whether an array has the shape of a step's output: (rows, size), or (size,)."""
    return (
        cnp.PyArray_NDIM(y) == ndim
        and cnp.PyArray_DIM(y, ndim - 1) == packed.output_size
        and (ndim == 1 or cnp.PyArray_DIM(y, 0) == rows)
    )


cdef inline bint is_writable(y, Packed packed, int ndim, Py_ssize_t rows) noexcept:
    """Whether an output can be copied to an array: if not, `_check.writable` finds the words, or accepts it."""
    return (
        cnp.PyArray_CheckExact(y)
        and is_shaped(<cnp.ndarray>y, packed, ndim, rows)
        and is_dense(<cnp.ndarray>y, packed.type_num)
        and cnp.PyArray_ISWRITEABLE(<cnp.ndarray>y)
        and (ndim == 1 or cnp.PyArray_STRIDE(<cnp.ndarray>y, 0) >= <Py_ssize_t>row_bytes(packed))
    )


cdef struct StepInput:
    const void *data
    ptrdiff_t row
    frnn_tokens tokens
    long long token  # what data is where x is one integer
    int ndim  # of x, or of the rows that its tokens name


cdef inline cnp.ndarray read_step(StepInput *to, x, Packed packed, Py_ssize_t rows, bint has_rows, bint may_lack_rows):
    """Checks x of a step and describes it to C; what comes back is to be kept while C reads it.

    x has an axis of rows if `has_rows`, and may be without one if `may_lack_rows`. An ndim of 0: it does not fit.
    """
    cdef int overflow
    to.tokens, to.ndim = FRNN_NO_TOKENS, 0
    if packed.vocabulary and PyArray_IsIntegerScalar(x) and type(x) is not bool:
        to.token = PyLong_AsLongLongAndOverflow(x, &overflow)  # -1, which is no token, where it does not fit
        to.data, to.row, to.tokens, to.ndim = &to.token, 0, FRNN_TOKENS_64, may_lack_rows
        return None
    if not cnp.PyArray_CheckExact(x):
        x = _check.as_array("x", x, packed.type_num, packed.vocabulary)
    cdef cnp.ndarray array = x
    cdef bint names_rows = packed.vocabulary and cnp.PyArray_ISINTEGER(array), is_readable
    cdef int ndim = cnp.PyArray_NDIM(array) + names_rows
    if not (ndim == 2 and has_rows and cnp.PyArray_DIM(array, 0) == rows or ndim == 1 and may_lack_rows):
        return array
    if names_rows:
        to.tokens = tokens_of(array)
        is_readable = to.tokens != FRNN_NO_TOKENS
    else:
        is_readable = cnp.PyArray_DIM(array, ndim - 1) == packed.input_size and is_dense(array, packed.type_num)
    if is_readable:
        to.ndim = ndim
        to.data, to.row = cnp.PyArray_DATA(array), cnp.PyArray_STRIDE(array, 0) if ndim == 2 else 0
    return array


@cython.auto_pickle(False)
cdef class Stream:
    """The part of `fastrnn.Stream` that has to be fast, and what its other part is made of."""

    cdef readonly Params _params
    cdef readonly Py_ssize_t _batch_size
    cdef Memory memory
    cdef frnn_stream *stream  # of memory
    cdef Packed packed
    cdef tuple rows, single  # of each slot the output (B, size), and (size,) where there is one row
    cdef bint brief
    # While C is at work without the GIL, or a signal handler runs within, nobody else may come in.
    cdef unsigned long busy  # the generation of the process in which C began its work; 0: it is not at work
    cdef unsigned long worker  # the thread

    def __cinit__(self, params=None, batch_size=1, **unexpected):
        if unexpected:
            _keywords.fail_stream(unexpected)
        if not isinstance(params, Params) or (<Params>params)._packed is None:
            _check.fail_params(params)
        self._params = params
        self.packed = self._params._packed
        if not self.packed.forward:
            _check_streams.fail_stream_direction(params.direction)
        self._batch_size = _check_streams.batch_size(batch_size)
        self.memory = Memory(self.packed, self._batch_size)
        self.stream = self.memory.stream
        self.rows = self.single = (None, None)
        self.make_outputs(0)
        self.make_outputs(1)
        self.brief = is_brief(self.packed, 1, self._batch_size)

    cdef int make_outputs(self, int slot) except -1:
        self.rows = replaced(self.rows, slot, self.memory.output(slot, 2, self._batch_size))
        if self._batch_size == 1:
            self.single = replaced(self.single, slot, self.memory.output(slot, 1, 1))
        return 0

    cdef bint is_orphaned(self) noexcept:
        """Whether the thread that was at work is gone: another one forked this process meanwhile."""
        return self.busy != 0 and self.busy != generation and self.worker != main_thread

    cdef int fail_busy(self) except -1:
        _check_streams.fail_orphaned("stream") if self.is_orphaned() else _check_streams.fail_busy("stream")

    cdef inline void begin_work(self) noexcept:
        self.worker = PyThread_get_thread_ident()
        self.busy = generation

    cdef int enter(self) except -1:
        """Raises where another call is at work; then sees to it that the call writes over nothing that is kept."""
        if self.busy:
            self.fail_busy()
        cdef int slot = not frnn_stream_newest(self.stream)
        if is_kept(self.rows, slot) or self._batch_size == 1 and is_kept(self.single, slot):
            self.memory.move_slot()
            self.make_outputs(slot)
        return 0

    def step(self, x, out=None, *, threads=1):
        """Take one step.

        On one thread nothing is allocated as long as no output before the last one is kept.

        Parameters
        ----------
        x : (B, I) ndarray, or (I,) where the batch has one row
            Inputs of the step, of the params' dtype, the last axis dense. Where the params have an embedding, also
            tokens: (B,) integers, or one integer where the batch has one row, which stands for (I,).
        out : ndarray, optional
            Where `y` is written: of its shape and dtype, last axis dense.
        threads : int or None
            Threads at most; None: those of `get_num_threads`. A step of less than some 60 us takes one. The results do
            not depend on it.

        Returns
        -------
        y : (B, H) ndarray, or (H,) where `x` is (I,)
            Output of the last layer, (B, P) with a projection: `out` if that is given, else an array that can't be
            written to, since it is a part of the stream's state. It stays as it is for as long as anything refers to
            it: a later step then takes new memory, that of h of all layers.
        """
        cdef StepInput given
        cdef Py_ssize_t B = self._batch_size
        cdef cnp.ndarray array = read_step(&given, x, self.packed, B, True, B == 1), to = None, y
        cdef int ndim = given.ndim, slot
        cdef size_t at_most = threads_of(threads)
        if not ndim:
            _check_streams.fail_step(x if array is None else array, B, self.packed.input_size, self.packed.type_num,
                             self.packed.vocabulary)
        if out is not None:
            to = out if is_writable(out, self.packed, ndim, B) else _check.writable(
                out, (B, self.packed.output_size)[2 - ndim:], self.packed.type_num
            )
        self.enter()
        if self.brief:
            slot = frnn_stream_step(self.stream, given.data, given.row, given.tokens, 1)
        else:
            self.begin_work()
            with nogil:
                slot = frnn_stream_step(self.stream, given.data, given.row, given.tokens, at_most)
            self.busy = 0
        if slot < 0:
            _check.fail_token(x if array is None else array, self.packed.vocabulary, None, False)
        if out is not None:
            self.copy_output(to, slot)
            return out
        y = (self.rows if ndim == 2 else self.single)[slot]
        if not self.is_untouched(y, ndim):  # somebody has set its shape or dtype
            self.make_outputs(slot)
            y = (self.rows if ndim == 2 else self.single)[slot]
        return y

    cdef void copy_output(self, cnp.ndarray to, int slot) noexcept:
        cdef size_t row = row_bytes(self.packed)
        cdef const char *output = <const char *>frnn_stream_output(self.stream, slot)
        cdef char *data = cnp.PyArray_BYTES(to)
        cdef Py_ssize_t r
        for r in range(self._batch_size):
            memcpy(data + r * cnp.PyArray_STRIDE(to, 0), output + r * row, row)

    cdef inline bint is_untouched(self, cnp.ndarray y, int ndim) noexcept:
        return (
            is_shaped(y, self.packed, ndim, self._batch_size)
            and cnp.PyArray_TYPE(y) == self.packed.type_num
            and cnp.PyArray_ISCARRAY_RO(y)
        )

    def run(self, x, *, resets=None, batch_first=None, threads=1):
        """Take any number of steps at once.

        Parameters
        ----------
        x : (T, B, I) ndarray, (B, T, I) with `batch_first`, or (T, I) where the batch has one row
            Inputs, of the params' dtype, the last axis dense. T may be 0. Where the params have an embedding, also
            tokens, which are integers: (T, B), (B, T), or (T,).
        resets : bools, laid out as the steps of `x`, or None
            Where it is true, the row's state, of all layers, is zero before that step.
        batch_first : bool or None
            Whether `x` and `y` are (B, T, ...); None: as the params say.
        threads : int or None
            Threads at most; None: those of `get_num_threads`. The results do not depend on it.

        Returns
        -------
        y : (T, B, H) ndarray, laid out as `x` is, or (T, H) where `x` is (T, I)
            Outputs of the last layer, with P in place of H if there is a projection. A new array.
        """
        cdef Call call
        cdef cnp.ndarray array = read_x(&call, x, self.packed, batch_first), y, flags
        cdef frnn_status status
        if <Py_ssize_t>call.c.B != self._batch_size:
            _check_streams.fail_chunk(array, self._batch_size, self.packed.input_size, call.batch_first)
        flags = read_resets(&call, resets)
        set_threads(&call, threads)
        y = new_y(&call, self.packed, True, None, array, None, None, flags)
        self.enter()
        self.begin_work()
        if call.brief:
            status = frnn_stream_run(self.stream, &call.c)
        else:
            with nogil:
                status = frnn_stream_run(self.stream, &call.c)
        self.busy = 0
        call.c.lengths = NULL
        check_status(status, &call, array, self.packed)
        return y

    def _get_state(self):
        """Copies, which can't be written to: nobody takes them for the state itself."""
        cdef cnp.ndarray h, c = None
        h = new_state(self.packed, 3, self._batch_size, self.packed.output_size)
        if self.packed.states == 2:
            c = new_state(self.packed, 3, self._batch_size, self.packed.hidden_size)
        if self.busy:
            self.fail_busy()
        cdef void *states[FRNN_MOST_STATES]
        states[0], states[1] = cnp.PyArray_DATA(h), NULL if c is None else cnp.PyArray_DATA(c)
        frnn_stream_get_state(self.stream, states)
        for array in (h,) if c is None else (h, c):
            cnp.PyArray_CLEARFLAGS(array, cnp.NPY_ARRAY_WRITEABLE)
        return h if c is None else (h, c)

    def _set_state(self, state):
        cdef cnp.ndarray h = None, c = None
        if state is not None and self.packed.states == 2:
            pair = state if type(state) is tuple and len(state) == 2 else _check.pair(state)
            h = self.own_state("state[0] (h)", pair[0], self.packed.output_size)
            c = self.own_state("state[1] (c)", pair[1], self.packed.hidden_size)
        elif state is not None:
            h = self.own_state("state", state, self.packed.output_size)
        if self.busy and not self.is_orphaned():
            self.fail_busy()
        self.busy = 0
        self.enter()
        cdef const void *states[FRNN_MOST_STATES]
        states[0] = NULL if h is None else cnp.PyArray_DATA(h)
        states[1] = NULL if c is None else cnp.PyArray_DATA(c)
        frnn_stream_set_state(self.stream, states)

    cdef cnp.ndarray own_state(self, name, value, Py_ssize_t size):
        """A dense copy of h or c."""
        cdef Call call
        call.ndim = 3
        call.c.T = call.c.B = self._batch_size
        if self._batch_size == 1 and cnp.PyArray_Check(value) and cnp.PyArray_NDIM(<cnp.ndarray>value) == 2:
            call.ndim = 2
        return cnp.PyArray_NewCopy(read_state(&call, 0, name, value, self.packed, size), cnp.NPY_CORDER)
