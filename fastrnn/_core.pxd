"""csrc/fastrnn.h, as far as the binding needs it; the contracts are there."""
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t


cdef extern from "<stdbool.h>":
    ctypedef bint c_bool "bool"


cdef extern from "pages.h" nogil:
    void frnn_pages_release()


cdef extern from "threads.h" nogil:
    double frnn_seconds()


cdef extern from "fastrnn.h" nogil:
    ctypedef enum frnn_status:
        FRNN_OK
        FRNN_NO_MEMORY
        FRNN_INTERRUPTED
        FRNN_FORKED
        FRNN_NO_SUCH_TOKEN
        FRNN_WRONG_IDS

    ctypedef enum frnn_dtype:
        FRNN_FLOAT32
        FRNN_FLOAT64

    ctypedef enum frnn_precision:
        FRNN_FULL
        FRNN_FLOAT16
        FRNN_INT8
        FRNN_INT8_FAST

    ctypedef enum frnn_cell:
        FRNN_CELLS  # how many there are: C knows their names

    enum:
        FRNN_MOST_GATES
        FRNN_MOST_STATES

    const char *frnn_cell_name(frnn_cell cell)
    size_t frnn_cell_gates(frnn_cell cell)
    size_t frnn_cell_states(frnn_cell cell)

    ctypedef enum frnn_function:
        FRNN_TANH
        FRNN_SIGMOID
        FRNN_RELU
        FRNN_HARD_SIGMOID
        FRNN_SOFTSIGN
        FRNN_LINEAR

    ctypedef struct frnn_activation:
        frnn_function function
        double alpha, beta

    ctypedef struct frnn_spec:
        frnn_cell cell
        frnn_dtype dtype
        frnn_precision precision
        size_t input_size, hidden_size, proj_size, num_layers
        bint forward, reverse, reset_after, input_forget
        double clip
        frnn_activation activation, recurrent_activation, output_activation
        size_t vocabulary

    ctypedef struct frnn_weights:
        const void *W
        const void *U
        const void *b
        const void *d
        const void *V
        const void *p
        const float *W_scale
        const float *U_scale
        const float *V_scale
        const void *E

    ctypedef enum frnn_tokens:
        FRNN_NO_TOKENS
        FRNN_TOKENS_32
        FRNN_TOKENS_64

    size_t FRNN_MOST_TABLE_BYTES

    ctypedef struct frnn_target:
        pass

    ctypedef struct frnn_params:
        pass

    ctypedef struct frnn_array:
        const void *data
        ptrdiff_t outer, row

    ctypedef struct frnn_call:
        size_t T, B
        frnn_array x
        frnn_tokens tokens
        frnn_array initial[FRNN_MOST_STATES]
        const size_t *lengths
        const unsigned char *resets
        ptrdiff_t reset_time, reset_row
        bint return_sequences
        void *y
        ptrdiff_t y_time, y_row
        void *final[FRNN_MOST_STATES]
        size_t threads
        c_bool (*interrupted)(void *context) noexcept
        void *context

    enum:
        FRNN_MOST_THREADS

    size_t frnn_target_count()
    const frnn_target *frnn_target_at(size_t index)
    const char *frnn_target_name(const frnn_target *target)
    const char *frnn_target_base(const frnn_target *target)
    bint frnn_target_usable(const frnn_target *target)
    frnn_status frnn_params_new(const frnn_spec *spec, const frnn_weights *weights, const frnn_target *target,
                                frnn_params **params)
    void frnn_params_free(frnn_params *params)
    size_t frnn_params_bytes(const frnn_params *params)
    size_t frnn_params_table_bytes(const frnn_params *params)
    const frnn_spec *frnn_params_spec(const frnn_params *params)
    size_t frnn_image_bytes(const frnn_spec *spec, const frnn_weights *weights)
    void frnn_image_write(const frnn_spec *spec, const frnn_weights *weights, void *image)
    frnn_status frnn_run(const frnn_params *params, const frnn_call *call)
    size_t frnn_explain(const frnn_params *params, size_t T, size_t B, size_t threads, char *text, size_t size)
    double frnn_step_seconds(const frnn_params *params)

    ctypedef struct frnn_tape:
        pass

    ctypedef struct frnn_transposed:
        pass

    ctypedef struct frnn_weight_gradients:
        void *W
        void *U
        void *b
        void *d
        void *V
        void *p

    ctypedef struct frnn_pull:
        frnn_array dy
        frnn_array dfinal[FRNN_MOST_STATES]
        void *dx
        ptrdiff_t dx_time, dx_row
        void *dinitial[FRNN_MOST_STATES]
        const frnn_weight_gradients *weights
        void *dE
        size_t threads
        c_bool (*interrupted)(void *context) noexcept
        void *context

    frnn_status frnn_params_renew(const frnn_params *like, const frnn_weights *weights, frnn_params **params)
    frnn_status frnn_run_taped(const frnn_params *params, const frnn_call *call, size_t segment, frnn_tape **tape)
    size_t frnn_tape_bytes(const frnn_tape *tape)

    ctypedef struct frnn_trace:
        void *gates[FRNN_MOST_GATES]
        void *states[FRNN_MOST_STATES]

    frnn_status frnn_tape_read(const frnn_tape *tape, size_t index, size_t begin, size_t end,
                               const frnn_trace *to) nogil
    void frnn_tape_free(frnn_tape *tape)
    frnn_status frnn_transposed_new(const frnn_params *params, const frnn_weights *weights,
                                    frnn_transposed **transposed)
    size_t frnn_transposed_bytes(const frnn_transposed *transposed)
    void frnn_transposed_free(frnn_transposed *transposed)
    frnn_status frnn_pull_back(const frnn_tape *tape, const frnn_transposed *transposed, const frnn_pull *pull) nogil

    ctypedef struct frnn_stream:
        pass

    frnn_status frnn_stream_new(const frnn_params *params, size_t B, frnn_stream **stream)
    void frnn_stream_free(frnn_stream *stream)
    int frnn_stream_step(frnn_stream *stream, const void *x, ptrdiff_t x_row, frnn_tokens tokens, size_t threads)
    int frnn_stream_newest(const frnn_stream *stream)
    const void *frnn_stream_output(const frnn_stream *stream, int slot)
    void frnn_stream_move_slot(frnn_stream *stream, void *memory)
    size_t frnn_stream_slot_bytes(const frnn_stream *stream)
    frnn_status frnn_stream_run(frnn_stream *stream, const frnn_call *call)
    void frnn_stream_get_state(const frnn_stream *stream, void **states)
    void frnn_stream_set_state(frnn_stream *stream, const void **states)

    ctypedef struct frnn_pool:
        pass

    ctypedef int64_t frnn_id

    enum:
        FRNN_MOST_STREAMS

    frnn_status frnn_pool_new(const frnn_params *params, size_t capacity, frnn_pool **pool)
    void frnn_pool_free(frnn_pool *pool)
    size_t frnn_pool_capacity(const frnn_pool *pool)
    frnn_status frnn_pool_open(frnn_pool *pool, frnn_id *id)
    size_t frnn_pool_ids(const frnn_pool *pool, frnn_id *ids)
    size_t frnn_pool_find_wrong(frnn_pool *pool, size_t n, const frnn_id *ids)
    void frnn_pool_close(frnn_pool *pool, size_t n, const frnn_id *ids)
    frnn_status frnn_pool_step(frnn_pool *pool, size_t n, const frnn_id *ids, const void *x, ptrdiff_t x_row,
                               frnn_tokens tokens, void *y, ptrdiff_t y_row, size_t threads)
    frnn_status frnn_pool_run(frnn_pool *pool, const frnn_id *ids, const frnn_call *call)
    void frnn_pool_get_states(const frnn_pool *pool, size_t n, const frnn_id *ids, void **states)
    void frnn_pool_set_states(frnn_pool *pool, size_t n, const frnn_id *ids, const frnn_array *states)
    frnn_id frnn_pool_latest(const frnn_pool *pool)
    frnn_status frnn_pool_restore(frnn_pool *pool, size_t n, const frnn_id *ids, frnn_id latest)


cdef extern from "kernel.h" nogil:
    ctypedef struct frnn_kernels:
        pass

    ctypedef struct frnn_target_kernels "struct frnn_target":
        const frnn_kernels *kernels[2]


cdef extern from "rates.h" nogil:
    ctypedef struct frnn_rates:
        double multiplies, near_bytes, far_bytes, cell_seconds, meet_seconds, wake_seconds

    frnn_rates frnn_rates_known(const frnn_kernels *kernels)
    frnn_rates frnn_rates_measured(const frnn_kernels *kernels)
    void frnn_rates_set(const frnn_rates *rates)


cdef extern from "plan.h" nogil:
    ctypedef struct frnn_plan:
        size_t chunk, parts, unit_threads, layer_threads, threads
        double seconds

    enum: FRNN_MOST_WAYS
    size_t frnn_plan_ways(const frnn_params *params, size_t T, size_t B, size_t threads, double trifle, frnn_plan *ways)
    frnn_status frnn_run_planned(const frnn_params *params, const frnn_call *call, frnn_plan plan)


cdef extern from "trials.h" nogil:
    ctypedef struct frnn_trial_kind:
        pass

    ctypedef struct frnn_trial:
        frnn_trial_kind *kind
        double begun

    frnn_plan frnn_trials_next(const frnn_params *params, const frnn_call *call, bint taped, frnn_trial *trial)
    void frnn_trials_end(const frnn_trial *trial)
    frnn_plan frnn_trials_best(const frnn_params *params, size_t T, size_t B, size_t threads)
