"""Calls of whole sequences: arrays described to C, new arrays for the results, and the call."""


# Up to so many expected seconds the GIL is kept: a call is back within 20 us, most of them within 10. Releasing it and
# taking it again where nobody else wants it was found to take some 30 ns, beside 130 to 210 for a step with 20 units.
cdef double BRIEF = 10e-6
cdef double BESIDE = 128e-9  # of a row's step, beside its products


cdef bint is_brief(Packed packed, double steps, double rows) noexcept:
    return (packed.step_seconds + BESIDE) * (steps or 1) * (rows or 1) <= BRIEF


cdef inline bint is_dense(cnp.ndarray a, int type_num) noexcept:
    """Whether C can read the array: exactly of the type, aligned, in native order, with a dense last axis.

    Strides of an axis that is never stepped along mean nothing, and NumPy leaves anything in them.
    """
    cdef int last = cnp.PyArray_NDIM(a) - 1
    return (
        cnp.PyArray_TYPE(a) == type_num
        and cnp.PyArray_ISBEHAVED_RO(a)
        and (
            cnp.PyArray_STRIDE(a, last) == cnp.PyArray_ITEMSIZE(a)
            or cnp.PyArray_DIM(a, last) <= 1
            or cnp.PyArray_SIZE(a) == 0
        )
    )


cdef inline bint is_state(a, Packed packed, int ndim, Py_ssize_t B, Py_ssize_t size) noexcept:
    """Whether an array is (L*D, B, size), or (L*D, size) where x has no batch axis."""
    return (
        cnp.PyArray_CheckExact(a)
        and cnp.PyArray_NDIM(<cnp.ndarray>a) == ndim
        and cnp.PyArray_DIM(<cnp.ndarray>a, 0) == packed.num_layers * packed.directions
        and (ndim == 2 or cnp.PyArray_DIM(<cnp.ndarray>a, 1) == B)
        and cnp.PyArray_DIM(<cnp.ndarray>a, ndim - 1) == size
        and is_dense(<cnp.ndarray>a, packed.type_num)
    )


cdef inline frnn_tokens tokens_of(cnp.ndarray a) noexcept:
    """Whether C can read the array as tokens, and as which."""
    if not (cnp.PyTypeNum_ISSIGNED(cnp.PyArray_TYPE(a)) and cnp.PyArray_ISBEHAVED_RO(a)):
        return FRNN_NO_TOKENS
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(a)
    return FRNN_TOKENS_64 if size == 8 else FRNN_TOKENS_32 if size == 4 else FRNN_NO_TOKENS


cdef struct Call:
    frnn_call c
    int ndim, time, row  # axes of x, or of the rows that its tokens name, and which of them are which
    bint batch_first, brief


cdef cnp.ndarray read_state(Call *call, int number, name, value, Packed packed, Py_ssize_t size):
    """Checks h or c and describes it to C; what comes back is to be kept while C reads it."""
    if not is_state(value, packed, call.ndim, call.c.B, size):
        shape = (packed.num_layers * packed.directions, *((call.c.B,) if call.ndim == 3 else ()), size)
        value = _check.state_array(name, value, shape, packed.type_num, call.c.T, call.batch_first)
    cdef cnp.ndarray state = value
    cdef frnn_array *to = &call.c.initial[number]
    to.data = cnp.PyArray_DATA(state)
    to.outer = cnp.PyArray_STRIDE(state, 0)
    to.row = cnp.PyArray_STRIDE(state, 1) if call.ndim == 3 else 0
    return state


cdef cnp.ndarray new_state(Packed packed, int ndim, Py_ssize_t B, Py_ssize_t size):
    cdef cnp.npy_intp[3] shape
    shape[0], shape[1], shape[ndim - 1] = packed.num_layers * packed.directions, B, size
    return cnp.PyArray_EMPTY(ndim, shape, packed.type_num, 0)


def array_at(size_t address, shape, strides, dtype, owner):
    """An array in memory of another library, which `owner` keeps; strides are in elements. It can't be written to."""
    cdef cnp.npy_intp[8] sizes, steps
    cdef int ndim = len(shape), i
    if ndim > 8:
        raise ValueError(f"shape: expected at most 8 axes, got {ndim}")
    for i in range(ndim):
        sizes[i], steps[i] = shape[i], strides[i] * <Py_ssize_t>dtype.itemsize
    cdef cnp.ndarray array = PyArray_New(&PyArray_Type, ndim, sizes, (<cnp.dtype>dtype).type_num, steps,
                                         <void *>address, 0, 0, NULL)
    cnp.set_array_base(array, owner)
    return array


cdef Py_ssize_t default_threads = 0  # 0 until it is first asked for


cdef Py_ssize_t first_default_threads() except -1:
    """Reads the environment: not when the package is imported, so that the command line can say what is wrong there."""
    from fastrnn import config
    set_default_threads(config.initial_threads())
    return default_threads


def set_default_threads(Py_ssize_t n):
    global default_threads
    default_threads = n


def get_default_threads():
    return default_threads or first_default_threads()


cdef cnp.ndarray read_x(Call *call, x, Packed packed, batch_first):
    """Checks x and describes it to C; what comes back is to be kept while C reads it."""
    if batch_first is None:
        call.batch_first = packed.batch_first
    elif batch_first is True or batch_first is False:
        call.batch_first = batch_first is True
    else:
        call.batch_first = _check.flag("batch_first", batch_first, or_none=True)
    if not cnp.PyArray_CheckExact(x):
        x = _check.as_array("x", x, packed.type_num, packed.vocabulary)
    cdef cnp.ndarray array = x
    cdef int ndim = cnp.PyArray_NDIM(array)
    call.c.tokens = FRNN_NO_TOKENS
    if packed.vocabulary and cnp.PyArray_ISINTEGER(array):
        call.c.tokens = tokens_of(array)
        if call.c.tokens == FRNN_NO_TOKENS or not (ndim == 1 or ndim == 2):
            _check.fail_tokens(array, call.batch_first)
        ndim += 1
    elif (
        not (ndim == 2 or ndim == 3)
        or cnp.PyArray_DIM(array, ndim - 1) != packed.input_size
        or not is_dense(array, packed.type_num)
    ):
        _check.fail_x(array, packed.input_size, packed.type_num, call.batch_first, packed.vocabulary)
    cdef int time = ndim == 3 and call.batch_first, row = not time
    cdef Py_ssize_t T = cnp.PyArray_DIM(array, time), B = cnp.PyArray_DIM(array, row) if ndim == 3 else 1
    # NumPy counts an axis of 0 as 1.
    if <double>(T or 1) * <double>(B or 1) * <double>(packed.directions * packed.output_size) * 8 > 4e18:
        _check.fail_size(T, B, packed.directions * packed.output_size)
    call.ndim, call.time, call.row = ndim, time, row
    call.brief = is_brief(packed, T, B)
    call.c.T, call.c.B = T, B
    call.c.x.data = cnp.PyArray_DATA(array)
    call.c.x.outer = cnp.PyArray_STRIDE(array, time)
    call.c.x.row = cnp.PyArray_STRIDE(array, row) if ndim == 3 else 0
    return array


cdef cnp.ndarray read_resets(Call *call, resets):
    """Checks resets and describes them to C; what comes back is to be kept while C reads it."""
    call.c.resets, call.c.reset_time, call.c.reset_row = NULL, 0, 0
    if resets is None:
        return None
    cdef cnp.ndarray array = _check.resets(resets, call.c.T, call.c.B, call.ndim == 3, call.batch_first)
    call.c.resets = <const unsigned char *>cnp.PyArray_DATA(array)
    call.c.reset_time = cnp.PyArray_STRIDE(array, call.time)
    call.c.reset_row = cnp.PyArray_STRIDE(array, call.row) if call.ndim == 3 else 0
    return array


cdef cnp.ndarray new_y(Call *call, Packed packed, bint sequences, out, cnp.ndarray x, cnp.ndarray h, cnp.ndarray c,
                       cnp.ndarray resets):
    """y, or `out` checked: of the axes of x, less the time axis where sequences are not returned."""
    cdef cnp.npy_intp[3] shape
    cdef int axes = call.ndim if sequences else call.ndim - 1, row = call.row if sequences else 0
    cdef cnp.ndarray y
    shape[axes - 1] = packed.directions * packed.output_size
    if call.ndim == 3:
        shape[row] = call.c.B
    if sequences:
        shape[call.time] = call.c.T
    if out is None:
        y = cnp.PyArray_EMPTY(axes, shape, packed.type_num, 0)
    else:
        y = _check.out(out, tuple([shape[i] for i in range(axes)]), packed.type_num, x, h, c, resets)
    call.c.return_sequences = sequences
    call.c.y = cnp.PyArray_DATA(y)
    call.c.y_time = cnp.PyArray_STRIDE(y, call.time) if sequences else 0
    call.c.y_row = cnp.PyArray_STRIDE(y, row) if call.ndim == 3 else 0
    return y


cdef Py_ssize_t threads_of(threads) except -1:
    cdef int overflow
    cdef long n
    if threads is None:
        return default_threads if default_threads else first_default_threads()
    if type(threads) is int:
        n = PyLong_AsLongAndOverflow(threads, &overflow)
        if not overflow and 1 <= n <= FRNN_MOST_THREADS:
            return n
    return _check.threads(threads)


cdef int set_threads(Call *call, threads) except -1:
    call.c.threads = threads_of(threads)
    call.c.interrupted = NULL
    if not call.brief and PyThread_get_thread_ident() == main_thread:
        call.c.interrupted = interrupted
    call.c.context = NULL
    return 0


cdef int check_status(frnn_status status, Call *call, cnp.ndarray x=None, Packed packed=None) except -1:
    if status == FRNN_OK:
        return 0
    if status == FRNN_NO_SUCH_TOKEN:
        lengths = [call.c.lengths[i] for i in range(<Py_ssize_t>call.c.B)] if call.c.lengths != NULL else None
        _check.fail_token(x, packed.vocabulary, lengths, call.batch_first)
    if PyErr_Occurred() != NULL:
        return -1  # with the error that `interrupted` left, whatever else ended the call
    if status == FRNN_FORKED:
        raise RuntimeError(
            "no result: this process was forked, by a signal handler, from one whose threads were at work"
        )
    raise MemoryError(f"no memory for the scratch of T={call.c.T} steps of B={call.c.B} rows")


cdef run(frnn_cell cell, x, params, state, lengths, resets, batch_first, return_sequences, out, threads,
         Tape tape=None):
    cdef Packed packed = packed_of(cell, params)
    cdef Call call
    cdef cnp.ndarray array, y, h_n, h = None, c = None, c_n = None, counts = None, flags
    cdef frnn_status status
    if not (return_sequences is True or return_sequences is False):
        return_sequences = _check.flag("return_sequences", return_sequences)
    array = read_x(&call, x, packed, batch_first)
    cdef int ndim = call.ndim
    cdef Py_ssize_t B = call.c.B
    cdef bint two = packed.states == 2
    call.c.initial[0] = call.c.initial[1] = frnn_array(NULL, 0, 0)
    if state is not None and not two:
        h = read_state(&call, 0, "state", state, packed, packed.output_size)
    elif state is not None:
        if type(state) is not tuple or len(<tuple>state) != 2:
            state = _check.pair(state)
        h = read_state(&call, 0, "state[0] (h)", (<tuple>state)[0], packed, packed.output_size)
        c = read_state(&call, 1, "state[1] (c)", (<tuple>state)[1], packed, packed.hidden_size)
    call.c.lengths = NULL
    if lengths is not None:
        counts = _check.lengths(lengths, call.c.T, B, ndim == 3, call.batch_first)
        call.c.lengths = <const size_t *>cnp.PyArray_DATA(counts)
    flags = read_resets(&call, resets)
    set_threads(&call, threads)
    y = new_y(&call, packed, return_sequences is True, out, array, h, c, flags)
    h_n = new_state(packed, ndim, B, packed.output_size)
    call.c.final[0] = cnp.PyArray_DATA(h_n)
    call.c.final[1] = NULL
    if two:
        c_n = new_state(packed, ndim, B, packed.hidden_size)
        call.c.final[1] = cnp.PyArray_DATA(c_n)
    if tape is not None:
        tape.record(packed, &call, array)
    elif call.brief:
        check_status(frnn_run(packed.params, &call.c), &call, array, packed)
    else:
        with nogil:
            status = frnn_run(packed.params, &call.c)
        check_status(status, &call, array, packed)
    return (y if out is None else out, (h_n, c_n) if two else h_n)
