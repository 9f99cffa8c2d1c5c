"""What the plan knows and chooses from: for show_config, FASTRNN_PLAN and bench/choices.py."""

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


cdef enum:
    LEAST_PRACTICE = 12

cdef double MOST_PRACTICE_SECONDS = 0.3


cdef name_of(const frnn_plan *way):
    return way.parts, way.unit_threads, way.layer_threads, way.threads


def time_ways(Packed packed, cnp.ndarray x, size_t threads, int practice, int rounds, int calls):
    """The ways that a call with a dense x (T, B, I) may be run in, that of one thread first, and indices of those chosen.

    Each way is (parts, unit_threads, layer_threads, threads, seconds expected, seconds taken). They and the plan's choice
    take turns; each turn is of some calls, of which the last is timed. Before that the plan learns from at most `practice`
    calls, fewer where that takes long.
    """
    cdef frnn_plan ways[FRNN_MOST_WAYS]
    cdef frnn_plan chosen
    cdef frnn_trial trial
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
    begun = frnn_seconds()
    with nogil:
        for k in range(practice):
            frnn_run(packed.params, &call)
            if k >= LEAST_PRACTICE and frnn_seconds() > begun + MOST_PRACTICE_SECONDS:
                break
    n = <int>frnn_plan_ways(packed.params, T, B, threads, 0, ways)
    names = [name_of(&ways[i]) for i in range(n)]
    seconds = [[] for _ in range(n)]
    choices = []
    for _ in range(rounds):
        for i in range(n):
            with nogil:
                for k in range(calls):
                    begun = frnn_seconds()
                    frnn_run_planned(packed.params, &call, ways[i])
                    taken = frnn_seconds() - begun
            seconds[i].append(taken)
        for k in range(calls):
            chosen = frnn_trials_next(packed.params, &call, False, &trial)
            frnn_run_planned(packed.params, &call, chosen)
            if trial.kind != NULL:
                frnn_trials_end(&trial)
        choices.append(names.index(name_of(&chosen)))
    return [(*names[i], ways[i].seconds, seconds[i]) for i in range(n)], choices


def simulate_trials(Packed packed, size_t T, size_t B, size_t threads, int calls, seconds_of):
    """The ways in which so many calls would be run, each as `time_ways` names it, if each took `seconds_of` its way."""
    cdef frnn_call call
    cdef frnn_trial trial
    cdef frnn_plan way
    memset(&call, 0, sizeof(frnn_call))
    call.T, call.B, call.threads = T, B, threads
    names = []
    for _ in range(calls):
        way = frnn_trials_next(packed.params, &call, False, &trial)
        name = name_of(&way)
        names.append(name)
        if trial.kind != NULL:
            trial.begun = frnn_seconds() - <double>seconds_of(name)
            frnn_trials_end(&trial)
    return names
