"""Streams: a step creates no object, since everything that it returns is made beforehand."""


@cython.final
cdef class Memory:
    """A stream's memory. Outputs of steps keep it, and it keeps the weights; it knows nothing of a `Stream`.

    Arrays take no part in the search for cycles, so a stream that its own arrays kept would never be freed.
    """

    cdef frnn_stream *stream
    cdef Packed packed

    def __cinit__(self, Packed packed not None, Py_ssize_t B):
        self.packed = packed
        if frnn_stream_new(packed.params, B, &self.stream) != FRNN_OK:
            raise MemoryError(f"no memory for a stream of B={B} rows")

    def __dealloc__(self):
        frnn_stream_free(self.stream)

    cdef tuple outputs(self, int ndim, Py_ssize_t B):
        """What steps return, in turns: both slots, as arrays that can't be written to."""
        cdef cnp.npy_intp[2] shape
        cdef cnp.ndarray array
        arrays = []
        for slot in range(2):
            shape[0], shape[ndim - 1] = B, self.packed.output_size
            array = cnp.PyArray_SimpleNewFromData(ndim, shape, self.packed.type_num,
                                                  <void *>frnn_stream_output(self.stream, slot))
            cnp.PyArray_CLEARFLAGS(array, cnp.NPY_ARRAY_WRITEABLE)
            cnp.set_array_base(array, self)
            arrays.append(array)
        return tuple(arrays)


@cython.auto_pickle(False)
cdef class Stream:
    """The part of `fastrnn.Stream` that has to be fast, and what its other part is made of."""

    cdef readonly Params _params
    cdef readonly Py_ssize_t _batch_size
    cdef Memory memory
    cdef frnn_stream *stream  # of memory
    cdef Packed packed
    cdef tuple rows, single  # outputs (B, size), and (size,) where there is one row
    cdef bint brief
    # While C is at work without the GIL, or a signal handler runs within, nobody else may come in.
    cdef unsigned long busy  # the generation of the process in which C began its work; 0: it is not at work
    cdef unsigned long worker  # the thread

    def __cinit__(self, params, batch_size=1):
        if not isinstance(params, Params) or (<Params>params)._packed is None:
            _check.fail_stream_params(params)
        self._params = params
        self.packed = self._params._packed
        if not self.packed.forward:
            _check.fail_stream_direction(params.direction)
        self._batch_size = _check.batch_size(batch_size)
        self.memory = Memory(self.packed, self._batch_size)
        self.stream = self.memory.stream
        self.rows = self.memory.outputs(2, self._batch_size)
        self.single = self.memory.outputs(1, 1) if self._batch_size == 1 else None
        self.brief = is_brief(self.packed, 1, self._batch_size)

    cdef bint is_orphaned(self) noexcept:
        """Whether the thread that was at work is gone: another one forked this process meanwhile."""
        return self.busy != 0 and self.busy != generation and self.worker != main_thread

    cdef int fail_busy(self) except -1:
        _check.fail_orphaned() if self.is_orphaned() else _check.fail_busy()

    cdef inline void begin_work(self) noexcept:
        self.worker = PyThread_get_thread_ident()
        self.busy = generation

    cdef int enter(self, const void *x) except -1:
        """Raises where another call is at work, or where x lies in the slot that the call writes over."""
        if self.busy:
            self.fail_busy()
        cdef const char *older = <const char *>frnn_stream_output(self.stream, not frnn_stream_newest(self.stream))
        if <size_t>(<const char *>x - older) < <size_t>cnp.PyArray_NBYTES(<cnp.ndarray>self.rows[0]):
            _check.fail_output_as_input()
        return 0

    def step(self, x):
        """Take one step.

        Nothing is allocated, and it runs on the calling thread.

        Parameters
        ----------
        x : (B, I) ndarray, or (I,) where the batch has one row
            Inputs of the step, of the params' dtype, the last axis dense.

        Returns
        -------
        y : (B, H) ndarray, or (H,) where `x` is (I,)
            Output of the last layer, (B, P) with a projection. It shows the stream's own memory: it can't be written
            to, and is valid until the next step or run. ``y.copy()`` keeps it.
        """
        if not cnp.PyArray_CheckExact(x):
            x = _check.as_array("x", x)
        cdef cnp.ndarray array = x
        cdef Packed packed = self.packed
        cdef int ndim = cnp.PyArray_NDIM(array), slot
        if (
            not (ndim == 2 and cnp.PyArray_DIM(array, 0) == self._batch_size or ndim == 1 and self._batch_size == 1)
            or cnp.PyArray_DIM(array, ndim - 1) != packed.input_size
            or not is_dense(array, packed.type_num)
        ):
            _check.fail_step(array, self._batch_size, packed.input_size, packed.type_num)
        cdef const void *data = cnp.PyArray_DATA(array)
        cdef ptrdiff_t row = cnp.PyArray_STRIDE(array, 0)
        self.enter(data)
        if self.brief:
            slot = frnn_stream_step(self.stream, data, row)
        else:
            self.begin_work()
            with nogil:
                slot = frnn_stream_step(self.stream, data, row)
            self.busy = 0
        cdef cnp.ndarray y = (self.rows if ndim == 2 else self.single)[slot]
        if not self.is_untouched(y, ndim):  # somebody has set its shape or dtype
            self.rows = self.memory.outputs(2, self._batch_size)
            self.single = self.memory.outputs(1, 1) if self._batch_size == 1 else None
            y = (self.rows if ndim == 2 else self.single)[slot]
        return y

    cdef inline bint is_untouched(self, cnp.ndarray y, int ndim) noexcept:
        return (
            cnp.PyArray_NDIM(y) == ndim
            and cnp.PyArray_TYPE(y) == self.packed.type_num
            and cnp.PyArray_DIM(y, ndim - 1) == self.packed.output_size
            and (ndim == 1 or cnp.PyArray_DIM(y, 0) == self._batch_size)
            and cnp.PyArray_ISCARRAY_RO(y)
        )

    def run(self, x, *, threads=1):
        """Take any number of steps at once.

        Parameters
        ----------
        x : (T, B, I) ndarray, or (T, I) where the batch has one row
            Inputs, of the params' dtype, the last axis dense. T may be 0.
        threads : int or None
            Threads at most; None: those of `get_num_threads`. The results do not depend on it.

        Returns
        -------
        y : (T, B, H) ndarray, or (T, H) where `x` is (T, I)
            Outputs of the last layer, with P in place of H if there is a projection. A new array.
        """
        cdef Call call
        cdef cnp.ndarray array = read_x(&call, x, self.packed, False), y
        cdef frnn_status status
        if <Py_ssize_t>call.c.B != self._batch_size:
            _check.fail_chunk(array, self._batch_size, self.packed.input_size)
        set_threads(&call, threads)
        y = new_y(&call, self.packed, True, None, array, None, None)
        self.enter(call.c.x.data)
        self.begin_work()
        if call.brief:
            status = frnn_stream_run(self.stream, &call.c)
        else:
            with nogil:
                status = frnn_stream_run(self.stream, &call.c)
        self.busy = 0
        check_status(status, &call)
        return y

    def _get_state(self):
        cdef cnp.ndarray h, c = None
        h = new_state(self.packed, 3, self._batch_size, self.packed.output_size)
        if self.packed.states == 2:
            c = new_state(self.packed, 3, self._batch_size, self.packed.hidden_size)
        if self.busy:
            self.fail_busy()
        cdef void *states[FRNN_MOST_STATES]
        states[0], states[1] = cnp.PyArray_DATA(h), NULL if c is None else cnp.PyArray_DATA(c)
        frnn_stream_get_state(self.stream, states)
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
        cdef const void *states[FRNN_MOST_STATES]
        states[0] = NULL if h is None else cnp.PyArray_DATA(h)
        states[1] = NULL if c is None else cnp.PyArray_DATA(c)
        frnn_stream_set_state(self.stream, states)

    cdef cnp.ndarray own_state(self, name, value, Py_ssize_t size):
        """A dense copy of h or c: what is given may be an output, in the memory that is written."""
        cdef frnn_array unused
        cdef int ndim = 3
        if self._batch_size == 1 and cnp.PyArray_Check(value) and cnp.PyArray_NDIM(<cnp.ndarray>value) == 2:
            ndim = 2
        return cnp.PyArray_NewCopy(read_state(&unused, name, value, self.packed, ndim, self._batch_size, size),
                                   cnp.NPY_CORDER)
