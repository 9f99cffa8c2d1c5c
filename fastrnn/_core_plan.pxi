"""What the plan knows and chooses from: for show_config, FASTRNN_PLAN and bench/choices.py."""

cdef enum:
    MOST_WAYS = 256


def measured_rates(int target, int dtype):
    """What is measured of the machine with the kernels of a target and dtype, as csrc/rates.h names it."""
    cdef frnn_rates rates
    cdef const frnn_target_kernels *of = <const frnn_target_kernels *>frnn_target_at(target)
    with nogil:
        rates = frnn_rates_measured(of.kernels[dtype])
    return rates


def set_rates(rates):
    """Let the plan take these rates, a dict as `measured_rates` answers it, or None: those that are measured."""
    cdef frnn_rates given
    if rates is None:
        frnn_rates_set(NULL)
    else:
        given = rates
        frnn_rates_set(&given)


def time_ways(Packed packed, cnp.ndarray x, size_t threads, int rounds, int calls):
    """The ways that a call with a dense x (T, B, I) may be run in, that of one thread first, and the index of the choice.

    Each is (parts, unit_threads, layer_threads, threads, seconds expected, seconds taken). They take turns; each turn
    is of some calls, of which the last is timed.
    """
    cdef frnn_plan ways[MOST_WAYS]
    cdef frnn_plan chosen
    cdef size_t T = x.shape[0], B = x.shape[1], layers = packed.num_layers * packed.directions
    cdef int i, k, n
    cdef frnn_call call
    cdef double begun = 0, taken = 0
    memset(&call, 0, sizeof(frnn_call))
    y = np.empty((T, B, packed.output_size * packed.directions), x.dtype)
    state = [np.empty((layers, B, size), x.dtype) for size in (packed.output_size, packed.hidden_size)]
    call.T, call.B, call.return_sequences, call.threads = T, B, True, threads
    call.x = frnn_array(cnp.PyArray_DATA(x), x.strides[0], x.strides[1])
    call.y, call.y_time, call.y_row = cnp.PyArray_DATA(y), y.strides[0], y.strides[1]
    for i in range(packed.states):
        call.final[i] = cnp.PyArray_DATA(state[i])
    n = min(<int>frnn_plan_choices(packed.params, T, B, threads, ways, MOST_WAYS), <int>MOST_WAYS)
    seconds = [[] for _ in range(n)]
    for _ in range(rounds):
        for i in range(n):
            with nogil:
                for k in range(calls):
                    begun = frnn_seconds()
                    frnn_run_planned(packed.params, &call, ways[i])
                    taken = frnn_seconds() - begun
            seconds[i].append(taken)
    names = [(ways[i].parts, ways[i].unit_threads, ways[i].layer_threads, ways[i].threads) for i in range(n)]
    chosen = frnn_make_plan(packed.params, T, B, threads)
    index = names.index((chosen.parts, chosen.unit_threads, chosen.layer_threads, chosen.threads))
    return [(*names[i], ways[i].seconds, seconds[i]) for i in range(n)], index
