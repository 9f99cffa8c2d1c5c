"""Weights of one target, packed: built by `params.py` from arguments that it has checked."""


cdef frnn_activation activation_of(activation):
    name, alpha, beta = activation
    return frnn_activation(FUNCTIONS[name], alpha, beta)


cdef const void *data_of(array):
    return NULL if array is None else cnp.PyArray_DATA(<cnp.ndarray>array)


cdef frnn_weights *weights_of(list weights, embedding=None) except NULL:
    """An array for C, to be freed, of tuples (W, U, b, d, V, p, scales of W, of U, of V), and the embedding."""
    cdef Py_ssize_t i, n = len(weights)
    cdef frnn_weights *arrays = <frnn_weights *>malloc(n * sizeof(frnn_weights))
    if arrays == NULL:
        raise MemoryError
    for i in range(n):
        W, U, b, d, V, p, W_scale, U_scale, V_scale = weights[i]
        arrays[i] = frnn_weights(
            data_of(W), data_of(U), data_of(b), data_of(d), data_of(V), data_of(p),
            <const float *>data_of(W_scale), <const float *>data_of(U_scale), <const float *>data_of(V_scale), NULL,
        )
    arrays[0].E = data_of(embedding)
    return arrays


@cython.final
cdef class Packed:
    """Weights in panels of one target.

    `weights` holds a tuple (W, U, b, d, V, p, and the scales of W, U and V) for each layer and direction, layer by layer,
    forward before reverse: dense arrays, None where absent. W, U and V are of `precision`, scales float32, all others of
    `dtype`. `embedding`: an array (vocabulary, I) of it; None where there is no vocabulary, or for the rows of an identity
    matrix. `like`: what was packed before of the same layers with other numbers.
    """

    cdef frnn_params *params
    cdef frnn_cell cell
    cdef int type_num
    cdef bint forward  # and in no other direction
    cdef bint batch_first  # the layout of x where a call does not say another one
    cdef Py_ssize_t input_size, hidden_size, num_layers, directions, output_size, states
    cdef Py_ssize_t vocabulary  # tokens that x may be made of; 0: it is of numbers alone
    cdef double step_seconds

    def __cinit__(self, str cell, dtype, sizes, directions, activations, *, double clip, bint reset_after,
                  bint input_forget, bint batch_first, list weights, str target, precision=None, size_t vocabulary=0,
                  embedding=None, Packed like=None):
        cdef frnn_spec spec
        cdef size_t i
        self.type_num = (<cnp.dtype>dtype).type_num
        self.input_size, self.hidden_size, P, self.num_layers = sizes
        self.output_size = P if P else self.hidden_size
        self.cell = spec.cell = <frnn_cell><int>CELLS[cell]
        spec.dtype = FRNN_FLOAT32 if self.type_num == cnp.NPY_FLOAT else FRNN_FLOAT64
        spec.precision = PRECISIONS[precision]
        spec.input_size, spec.hidden_size, spec.proj_size, spec.num_layers = sizes
        spec.forward, spec.reverse = directions
        self.directions = spec.forward + spec.reverse
        self.states = frnn_cell_states(spec.cell)
        self.forward = spec.forward and not spec.reverse
        self.batch_first = batch_first
        self.vocabulary = spec.vocabulary = vocabulary
        spec.reset_after = reset_after
        spec.input_forget = input_forget
        spec.clip = clip
        spec.activation = activation_of(activations[0])
        spec.recurrent_activation = activation_of(activations[1])
        spec.output_activation = activation_of(activations[2])

        cdef const frnn_target *chosen = NULL
        for i in range(frnn_target_count()):
            if frnn_target_name(frnn_target_at(i)).decode() == target:
                chosen = frnn_target_at(i)
        cdef const frnn_params *like_params = NULL if like is None else like.params
        cdef frnn_weights *arrays = weights_of(weights, embedding)
        cdef frnn_status status
        try:
            with nogil:
                if like_params != NULL:
                    status = frnn_params_renew(like_params, arrays, &self.params)
                else:
                    status = frnn_params_new(&spec, arrays, chosen, &self.params)
        finally:
            free(arrays)
        if status != FRNN_OK:
            raise MemoryError("weights: no memory for the packed arrays")
        self.step_seconds = frnn_step_seconds(self.params)

    def __dealloc__(self):
        frnn_params_free(self.params)

    @property
    def nbytes(self):
        return frnn_params_bytes(self.params)

    @property
    def table_nbytes(self):
        return frnn_params_table_bytes(self.params)

    def image(self, list weights, embedding):
        """The bytes of csrc/image.c; `weights` and `embedding` are those that this was packed of."""
        cdef const frnn_spec *spec = frnn_params_spec(self.params)
        cdef frnn_weights *arrays = weights_of(weights, embedding)
        cdef bytes image
        cdef char *to
        try:
            image = PyBytes_FromStringAndSize(NULL, frnn_image_bytes(spec, arrays))
            to = image
            with nogil:
                frnn_image_write(spec, arrays, to)
        finally:
            free(arrays)
        return image

    def explain(self, size_t T, size_t B, size_t threads):
        cdef bytearray text
        cdef size_t size = 0, needed = 1024
        while needed > size:  # as the second text may be, which is another one
            size = needed
            text = bytearray(size)
            needed = frnn_explain(self.params, T, B, threads, text, size)
        return text.decode().rstrip("\0\n")


@cython.auto_pickle(False)
cdef class Params:
    """What params are to this module. `params.py` makes the rest of them."""

    cdef public Packed _packed


cdef Packed packed_of(frnn_cell cell, params):
    cdef Packed packed
    if isinstance(params, Params):
        packed = (<Params>params)._packed
        if packed is not None and packed.cell == cell:
            return packed
    from fastrnn.params import to_params  # not before it is needed: that module imports this one
    packed = to_params(frnn_cell_name(cell).decode(), params)._packed
    return packed
