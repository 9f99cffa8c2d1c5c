"""Pools of streams: any of them take a step together.

A call reads its ids into memory of the pool, so that nothing can change them, and keeps the pool closed to other calls
until it ends. A step makes no object where an array of one of its last two outputs is free again.
"""


cdef inline bint is_plain(ids) noexcept:
    """Whether ids can be read without running any code of Python: if so, but for what a list holds."""
    return (
        type(ids) is int
        or type(ids) is list
        or type(ids) is tuple
        or (
            cnp.PyArray_CheckExact(ids)
            and cnp.PyArray_NDIM(<cnp.ndarray>ids) == 1
            and cnp.PyArray_TYPE(<cnp.ndarray>ids) == cnp.NPY_INT64
            and cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray>ids)
        )
    )


@cython.auto_pickle(False)
cdef class StreamPool:
    """The part of `fastrnn.StreamPool` that has to be fast, and what its other part is made of."""

    cdef readonly Params _params
    cdef Packed packed
    cdef frnn_pool *pool
    cdef frnn_id *ids  # of the call that is at work
    cdef Py_ssize_t room  # for ids: one more than can be open, since among so many one is wrong
    cdef Py_ssize_t n  # ids of the call
    cdef bint single  # the call has one id that is no list, and its arrays have no axis of rows
    cdef tuple outputs  # of the last two steps
    cdef int turn  # which of them is the last one's
    cdef unsigned long busy  # these two as those of `Stream`, from the ids of a call to its end
    cdef unsigned long worker

    def __cinit__(self, params=None, capacity=64, **unexpected):
        if unexpected:
            _keywords.fail_pool(unexpected)
        if not isinstance(params, Params) or (<Params>params)._packed is None:
            _check.fail_params(params)
        self._params = params
        self.packed = self._params._packed
        if not self.packed.forward:
            _check_streams.fail_stream_direction(params.direction)
        self.outputs = (None, None)
        cdef size_t places = _check.whole("capacity", capacity, 1, FRNN_MOST_STREAMS)
        if frnn_pool_new(self.packed.params, places, &self.pool) != FRNN_OK or not self.has_room():
            raise MemoryError(f"no memory for a pool of {places} streams")

    def __dealloc__(self):
        frnn_pool_free(self.pool)
        free(self.ids)

    cdef bint has_room(self) noexcept:
        """Makes room for as many ids as a call may have; false where memory can't be had."""
        cdef Py_ssize_t room = frnn_pool_capacity(self.pool) + 1
        if room > self.room:
            ids = <frnn_id *>realloc(self.ids, room * sizeof(frnn_id))
            if ids == NULL:
                return False
            self.ids, self.room = ids, room
        return True

    cdef int check_idle(self) except -1:
        """Raises where another call is at work, or was when this process was forked by another thread."""
        if not self.busy:
            return 0
        if self.is_orphaned():
            _check_streams.fail_orphaned("pool")
        _check_streams.fail_busy("pool")

    cdef bint is_orphaned(self) noexcept:
        return self.busy != generation and self.worker != main_thread

    cdef inline void occupy(self) noexcept:
        self.worker = PyThread_get_thread_ident()
        self.busy = generation

    cdef bint read_ids(self, ids) except -1:
        """Copies ids; false where a list holds anything but integers of Python."""
        cdef Py_ssize_t i, count
        cdef int overflow = 0
        self.single = type(ids) is int
        if self.single:
            self.n = 1
            self.ids[0] = PyLong_AsLongLongAndOverflow(ids, &overflow)
            return not overflow
        self.n = len(ids)
        count = min(self.n, self.room)
        if cnp.PyArray_CheckExact(ids):
            for i in range(count):
                self.ids[i] = (<frnn_id *>cnp.PyArray_GETPTR1(<cnp.ndarray>ids, i))[0]
            return True
        for i in range(count):
            each = (<list>ids)[i] if type(ids) is list else (<tuple>ids)[i]
            if type(each) is not int:
                return False
            self.ids[i] = PyLong_AsLongLongAndOverflow(each, &overflow)
            if overflow:
                return False
        return True

    cdef int begin(self, ids) except -1:
        """Reads the ids of a call, and closes the pool to others until `busy` is 0 again."""
        if not is_plain(ids):
            ids = _check_streams.ids(ids)
        self.check_idle()
        if not self.read_ids(ids):
            ids = _check_streams.ids(ids)
            self.check_idle()
            self.read_ids(ids)
        cdef Py_ssize_t looked_at = min(self.n, self.room)
        cdef Py_ssize_t wrong = frnn_pool_find_wrong(self.pool, looked_at, self.ids)
        if wrong < looked_at:
            _check_streams.fail_ids(ids, wrong)
        self.occupy()
        return 0

    def open(self, state=None):
        """Open a stream.

        Parameters
        ----------
        state : (L, H) ndarray, or for an LSTM a tuple (h, c), optional
            Its state, as `state` gives it or a function returned it for one row; zeros if not given. It is copied.

        Returns
        -------
        id : int
            The stream: what the other methods take, until it is closed.
        """
        cdef Call call
        cdef frnn_id id
        arrays = self.read_states(&call, True, 1, state)
        self.check_idle()
        if frnn_pool_open(self.pool, &id) != FRNN_OK:
            raise MemoryError(f"no memory for more than {len(self)} streams")
        if not self.has_room():
            frnn_pool_close(self.pool, 1, &id)
            raise MemoryError(f"no memory for more than {len(self)} streams")
        if arrays is not None:
            frnn_pool_set_states(self.pool, 1, &id, call.c.initial)
        return id

    def close(self, ids):
        """Close a stream, or several ones: their ids are not given again.

        Parameters
        ----------
        ids : int or sequence of int
            Distinct streams that are open.
        """
        self.begin(ids)
        frnn_pool_close(self.pool, self.n, self.ids)
        self.busy = 0

    def reset(self, ids=None):
        """Set states to zeros.

        Parameters
        ----------
        ids : int or sequence of int, optional
            Distinct streams that are open; all of them if not given.
        """
        if ids is None:
            if self.busy and not self.is_orphaned():
                self.check_idle()
            self.n = frnn_pool_ids(self.pool, self.ids)
        else:
            self.begin(ids)
        frnn_pool_set_states(self.pool, self.n, self.ids, NULL)
        self.busy = 0

    def step(self, ids, x, out=None, *, threads=1):
        """Take one step of some streams. The others keep their states.

        Nothing is allocated where `out` is given, or where the last two steps had as many streams and the output of the
        last but one is no longer referred to.

        Parameters
        ----------
        ids : sequence of int, or int
            n distinct streams that are open, in any order: a list, a tuple, a range or an ndarray.
        x : (n, I) ndarray, or (I,) where `ids` is one integer
            Inputs of the step, of the params' dtype, the last axis dense: row i is for stream ``ids[i]``. Where the
            params have an embedding, also tokens: (n,) integers, or one integer where `ids` is one integer.
        out : ndarray, optional
            Where `y` is written: of its shape and dtype, last axis dense. It may be `x`.
        threads : int or None
            Threads at most, which share the streams; None: those of `get_num_threads`. The results do not depend on it.

        Returns
        -------
        y : (n, H) ndarray, or (H,) where `ids` is one integer
            Outputs of the last layer, (n, P) with a projection: `out` if that is given.
        """
        self.begin(ids)
        try:
            return self.take_step(x, out, threads)
        finally:
            self.busy = 0

    cdef take_step(self, x, out, threads):
        cdef Packed packed = self.packed
        cdef StepInput given
        cdef cnp.ndarray array = read_step(&given, x, packed, self.n, not self.single, self.single), y
        cdef int ndim = given.ndim
        cdef size_t n = self.n, at_most = threads_of(threads)
        cdef frnn_status status
        if not ndim:
            _check_streams.fail_pool_step(x if array is None else array, None if self.single else self.n, packed.input_size,
                                  packed.type_num, packed.vocabulary)
        if out is None:
            y = self.new_output(ndim)
        elif is_writable(out, packed, ndim, self.n):
            y = out
        else:
            y = _check.writable(out, (self.n, packed.output_size)[2 - ndim:], packed.type_num)
        cdef void *to = cnp.PyArray_DATA(y)
        cdef ptrdiff_t row = cnp.PyArray_STRIDE(y, 0)
        if is_brief(packed, 1, n):
            status = frnn_pool_step(self.pool, n, self.ids, given.data, given.row, given.tokens, to, row, 1)
        else:
            with nogil:
                status = frnn_pool_step(self.pool, n, self.ids, given.data, given.row, given.tokens, to, row, at_most)
        if status == FRNN_NO_SUCH_TOKEN:
            _check.fail_token(x if array is None else array, packed.vocabulary, None, False)
        if status != FRNN_OK:
            raise RuntimeError("no result: this process was forked from one whose threads were at work")
        return y if out is None else out

    cdef cnp.ndarray new_output(self, int ndim):
        """An array for y: that of the last step but one, if it fits and nobody else refers to it."""
        cdef cnp.npy_intp[2] shape
        cdef cnp.ndarray y
        self.turn = not self.turn
        if not is_kept(self.outputs, self.turn):  # None is: there are many references to it
            y = self.outputs[self.turn]
            if (
                is_shaped(y, self.packed, ndim, self.n)
                and cnp.PyArray_TYPE(y) == self.packed.type_num
                and cnp.PyArray_ISCARRAY(y)
            ):
                return y
        shape[0], shape[ndim - 1] = self.n, self.packed.output_size
        y = cnp.PyArray_EMPTY(ndim, shape, self.packed.type_num, 0)
        self.outputs = replaced(self.outputs, self.turn, y)
        return y

    def run(self, ids, x, lengths=None, *, resets=None, out=None, threads=1):
        """Take any number of steps of some streams at once. The others keep their states.

        Parameters
        ----------
        ids : sequence of int, or int
            n distinct streams that are open, in any order.
        x : (n, T, I) ndarray, or (T, I) where `ids` is one integer
            Inputs, of the params' dtype, the last axis dense: row i is for stream ``ids[i]``. T may be 0. Where the
            params have an embedding, also tokens, which are integers: (n, T) or (T,).
        lengths : (n,) integers, optional
            Steps of each row, from 0 to T; all have T if not given.
        resets : (n, T) bools, or (T,) where `ids` is one integer, optional
            Where it is true, the stream's state, of all layers, is zero before that step.
        out : ndarray, optional
            Where `y` is written: of its shape and dtype, last axis dense, sharing no memory with `x`.
        threads : int or None
            Threads at most; None: those of `get_num_threads`. The results do not depend on it.

        Returns
        -------
        y : (n, T, H) ndarray, or (T, H) where `ids` is one integer
            Outputs of the last layer, with P in place of H if there is a projection; 0 past a row's length. `out` if
            that is given, else a new array.
        """
        self.begin(ids)
        try:
            return self.take_run(x, lengths, resets, out, threads)
        finally:
            self.busy = 0

    cdef take_run(self, x, lengths, resets, out, threads):
        cdef Call call
        cdef cnp.ndarray array = read_x(&call, x, self.packed, True), y, counts = None, flags
        cdef frnn_status status
        if call.ndim != 3 - self.single or <Py_ssize_t>call.c.B != self.n:
            _check_streams.fail_pool_chunk(array, None if self.single else self.n, self.packed.input_size)
        call.c.lengths = NULL
        if lengths is not None:
            counts = _check.lengths(lengths, call.c.T, self.n, not self.single, True)
            call.c.lengths = <const size_t *>cnp.PyArray_DATA(counts)
        flags = read_resets(&call, resets)
        set_threads(&call, threads)
        y = new_y(&call, self.packed, True, out, array, None, None, flags)
        if call.brief:
            status = frnn_pool_run(self.pool, self.ids, &call.c)
        else:
            with nogil:
                status = frnn_pool_run(self.pool, self.ids, &call.c)
        check_status(status, &call, array, self.packed)
        return y if out is None else out

    def state(self, ids):
        """The state of a stream, or of several ones: what `set_state` and `open` take, also of another pool.

        Parameters
        ----------
        ids : int or sequence of int
            n distinct streams that are open.

        Returns
        -------
        h, or for an LSTM (h, c) : (L, H) ndarray or tuple of ndarrays, (L, n, H) where `ids` is a sequence
            Copies. h is (L, P) or (L, n, P) with a projection.
        """
        self.begin(ids)
        try:
            return self.states_of_call()
        finally:
            self.busy = 0

    cdef states_of_call(self):
        cdef cnp.ndarray h, c = None
        cdef void *states[FRNN_MOST_STATES]
        h = new_state(self.packed, 3 - self.single, self.n, self.packed.output_size)
        if self.packed.states == 2:
            c = new_state(self.packed, 3 - self.single, self.n, self.packed.hidden_size)
        states[0], states[1] = cnp.PyArray_DATA(h), NULL if c is None else cnp.PyArray_DATA(c)
        frnn_pool_get_states(self.pool, self.n, self.ids, states)
        return h if c is None else (h, c)

    def set_state(self, ids, state):
        """Set the state of a stream, or of several ones.

        Parameters
        ----------
        ids : int or sequence of int
            n distinct streams that are open.
        state : ndarray, or for an LSTM a tuple (h, c), or None
            As `state` gives it, and copied; None: zeros.
        """
        cdef Call call
        self.begin(ids)
        try:
            arrays = self.read_states(&call, self.single, self.n, state)
            frnn_pool_set_states(self.pool, self.n, self.ids, NULL if arrays is None else call.c.initial)
        finally:
            self.busy = 0

    cdef tuple read_states(self, Call *call, bint single, Py_ssize_t n, state):
        """Checks states and describes them to C; what comes back is to be kept while C reads it. None: zeros."""
        cdef Packed packed = self.packed
        call.c.T = call.c.B = n
        call.batch_first = True
        if state is None:
            return None
        if packed.states == 1:
            call.ndim = axes_of_state(state, single)
            return (read_state(call, 0, "state", state, packed, packed.output_size),)
        pair = state if type(state) is tuple and len(state) == 2 else _check.pair(state)
        call.ndim = axes_of_state(pair[0], single)
        h = read_state(call, 0, "state[0] (h)", pair[0], packed, packed.output_size)
        call.ndim = axes_of_state(pair[1], single)
        return h, read_state(call, 1, "state[1] (c)", pair[1], packed, packed.hidden_size)

    def __len__(self):
        return frnn_pool_ids(self.pool, NULL)

    def __contains__(self, stream):
        cdef frnn_id number
        cdef int overflow = 0
        if type(stream) is not int:
            if not _check.is_integer(stream):
                return False
            stream = operator.index(stream)
        number = PyLong_AsLongLongAndOverflow(stream, &overflow)
        return not overflow and frnn_pool_find_wrong(self.pool, 1, &number) == 1

    def __iter__(self):
        return iter(self._ids().tolist())

    @property
    def capacity(self):
        """Streams that there is memory for: it grows where more are opened."""
        return frnn_pool_capacity(self.pool)

    def _ids(self):
        """All streams that are open."""
        cdef cnp.npy_intp n = frnn_pool_ids(self.pool, NULL)
        cdef cnp.ndarray ids = cnp.PyArray_EMPTY(1, &n, cnp.NPY_INT64, 0)
        frnn_pool_ids(self.pool, <frnn_id *>cnp.PyArray_DATA(ids))
        return ids

    def _latest(self):
        return frnn_pool_latest(self.pool)

    def _restore(self, ids, frnn_id latest, state):
        """Makes a new pool what another one was: streams, and what ids it has had."""
        cdef frnn_status status
        if len(self):
            raise ValueError("pool: expected one without streams, to restore others in")
        ids = _check_streams.ids(ids)
        status = frnn_pool_restore(self.pool, len(ids), <const frnn_id *>cnp.PyArray_DATA(<cnp.ndarray>ids), latest)
        if status == FRNN_WRONG_IDS:
            raise ValueError("ids: expected those of a pool, got others")
        if status != FRNN_OK or not self.has_room():
            raise MemoryError(f"no memory for a pool of {len(ids)} streams")
        self.set_state(ids, state)


cdef int axes_of_state(value, bint single) noexcept:
    """Of one stream without an axis of rows, a state may have one: a `Stream` gives it so."""
    if single and cnp.PyArray_Check(value) and cnp.PyArray_NDIM(<cnp.ndarray>value) == 3:
        return 3
    return 3 - single
