/* The loop over time chunks, layers and steps: the same for every cell and target.
 *
 * (a) A chunk of steps goes through all layers, then the next chunk: between layers there is one chunk.
 * (b) Steps are counted from where a row starts (sequence.h). Rows run longest first, so the rows still active at a step
 *     are the first ones, and nothing is done for the others.
 * (c) Nothing is copied between steps: h of a step is read where the step before wrote it.
 * (d) A row that resets reads zeros as its h, and its other states are set to zeros. The kernels take consecutive steps of
 *     which only the first one resets rows.
 * (e) Where several threads share a strand, all run this loop. Either each computes its share of the units, and they
 *     meet after each stage; or each takes whatever chunk of whatever layer is ready.
 */
#include "strand.h"

static size_t length_of(const frnn_strand *self, size_t row)
{
    return self->call->lengths ? self->call->lengths[self->rows[row]] : self->call->T;
}

/* How many of the first n rows are still active at a step. */
static size_t active_at(const frnn_strand *self, size_t step, size_t n)
{
    while (n && length_of(self, n - 1) <= step)
        n--;
    return n;
}

static bool is_reverse(const frnn_strand *self) { return self->direction || !self->params->spec.forward; }

/* Whether a row's states are to be zeros before a step. */
static bool is_reset(const frnn_strand *self, size_t step, size_t row)
{
    const frnn_call *call = self->call;
    const size_t time = is_reverse(self) ? length_of(self, row) - 1 - step : step;
    return call->resets[(ptrdiff_t)time * call->reset_time + (ptrdiff_t)self->rows[row] * call->reset_row];
}

static char *at(const frnn_strand *self, const frnn_sequence *s, size_t step, size_t row)
{
    switch (s->order) {
    case FRNN_IN_RING: return frnn_sequence_at(s, (step - self->from) % s->slots, row);
    case FRNN_BY_STEP: return frnn_sequence_at(s, step - self->from, self->rows[row]);
    default: return frnn_sequence_at(s, is_reverse(self) ? length_of(self, row) - 1 - step : step, self->rows[row]);
    }
}

/* Bytes from a row's step to its next one, within a chunk. */
static ptrdiff_t step_bytes(const frnn_strand *self, const frnn_sequence *s)
{
    return s->order == FRNN_BY_TIME && is_reverse(self) ? -s->time : s->time;
}

/* Where a layer of the strand stands among those of the params, and its states among those of the call. */
static size_t index_of(const frnn_strand *self, size_t layer)
{
    return (self->first + layer) * self->params->D + self->direction;
}

static const frnn_layer *layer_of(const frnn_strand *self, size_t layer)
{
    return &self->params->layers[index_of(self, layer)];
}

static const frnn_sequence *source_of(const frnn_strand *self, size_t layer)
{
    return layer ? &self->between[layer - 1] : &self->source;
}

/* The caller's initial state of a row, or zeros. */
static const void *initial(const frnn_strand *self, size_t state, size_t layer, size_t row)
{
    const frnn_array *array = &self->call->initial[state];
    if (!array->data)
        return self->params->zeros;
    return (const char *)array->data + (ptrdiff_t)index_of(self, layer) * array->outer +
           (ptrdiff_t)self->rows[row] * array->row;
}

static bool reads_tokens(const frnn_strand *self, size_t layer) { return self->tokens && layer == 0; }

static frnn_lookup lookup_of(const frnn_strand *self)
{
    return frnn_lookup_of(self->params, self->tokens, self->direction);
}

/* Whether W x of a chunk is one product, whose sums are kept for the steps: not where sums are kept with the params. */
static bool is_ahead(const frnn_strand *self, size_t layer)
{
    return self->plan.x_part == FRNN_X_AHEAD && !(reads_tokens(self, layer) && lookup_of(self).table);
}

/* The recorded outputs of a layer, of this direction. */
static frnn_sequence recorded_outputs(const frnn_strand *self, size_t layer)
{
    frnn_sequence outputs = frnn_record_outputs(self->record, self->first + layer);
    outputs.base += self->direction * self->params->out * self->params->number_bytes;
    return outputs;
}

static frnn_sequence make_ring(frnn_strand *self)
{
    const size_t row = self->params->out * self->params->number_bytes, slots = frnn_plan_slots(&self->plan);
    char *base = frnn_arena_take(&self->arena, frnn_arena_product(&self->arena, slots, self->n), row);
    frnn_sequence ring = frnn_sequence_of(base, FRNN_IN_RING, self->n, row);
    ring.slots = slots;
    return ring;
}

/* Bytes of a layer's U as numbers, where its halves are made wide once a chunk, and the numbers stay near: in L2 where
 * several rows multiply them in each of its steps, in L1 where one row does. One row's step has one text for both of its
 * products, so it takes the numbers only where W x is kept. 0: halves are made wide where they are multiplied, if weights are
 * halves at all. */
static size_t wide_bytes(const frnn_strand *self)
{
    enum { ENOUGH_STEPS = 4, NEAREST_BYTES = 24 << 10 };
    const frnn_layer *layer = layer_of(self, 0);
    const size_t near = self->n == 1 ? NEAREST_BYTES : self->params->l2_bytes;
    size_t bytes = 0;
    if (self->params->spec.precision != FRNN_FLOAT16 || self->plan.chunk < ENOUGH_STEPS)
        return 0;
    if (self->n == 1 && !is_ahead(self, 0))
        return 0;
    for (int s = 0; s < layer->stages; s++)
        bytes += layer->stage[s].U.bytes / frnn_format_bytes(FRNN_FORMAT_FLOAT16) * self->params->number_bytes;
    return bytes <= near ? bytes : 0;
}

/* One thread's scratch. Threads that share units have the same rows between stages, and the same kept sums. */
static frnn_scratch make_scratch(frnn_strand *self, const frnn_scratch *shared)
{
    const frnn_params *params = self->params;
    const frnn_layer *layer = layer_of(self, 0); /* the others have the same stages, but for I */
    const bool keeps = is_ahead(self, self->layers - 1) || is_ahead(self, 0);
    const size_t kept_rows = keeps ? frnn_arena_product(&self->arena, self->plan.chunk, self->n) : 0;
    const size_t two = layer->stages == 2 ? self->n : 0, H = params->spec.hidden_size * params->number_bytes;
    frnn_arena *arena = &self->arena;
    frnn_scratch scratch = {0};
    if (shared)
        scratch = *shared;
    scratch.x = frnn_arena_take(arena, keeps ? kept_rows : self->n, sizeof *scratch.x);
    scratch.found = params->embedding.V ? frnn_arena_take(arena, self->n, sizeof *scratch.found) : NULL;
    scratch.h = frnn_arena_take(arena, self->n, sizeof *scratch.h);
    scratch.y = frnn_arena_take(arena, self->n, sizeof *scratch.y);
    scratch.x_integers = frnn_arena_take(arena, keeps ? kept_rows : self->n, params->x_integer_bytes);
    scratch.h_integers = frnn_arena_take(arena, self->n, params->h_integer_bytes);
    for (int s = 0; s < layer->stages && self->record; s++)
        scratch.tape[s] = frnn_arena_take(arena, self->n, sizeof *scratch.tape[s]);
    if (shared)
        return scratch;
    const size_t wide = wide_bytes(self);
    scratch.wide = wide ? frnn_arena_take(arena, wide, 1) : NULL;
    scratch.of_wide = NULL;
    scratch.middle = frnn_arena_take(arena, two, sizeof *scratch.middle);
    char *middle = frnn_arena_take(arena, two, H);
    for (size_t r = 0; r < two && arena->base; r++)
        scratch.middle[r] = middle + r * H;
    for (int s = 0; s < layer->stages; s++) {
        const frnn_stage *stage = &layer->stage[s];
        scratch.sums[s] = frnn_arena_take(arena, stage->takes_x ? kept_rows : 0, stage->sums_row_bytes);
    }
    return scratch;
}

/* Lays a strand's scratch out: once to learn its size, once for real. */
static void lay_out(frnn_strand *self)
{
    const bool wavefront = self->plan.layer_threads > 1;
    const size_t threads = wavefront ? self->plan.layer_threads : self->plan.unit_threads;
    frnn_arena *arena = &self->arena;
    const size_t carries = self->params->carried ? frnn_arena_product(arena, self->layers, self->n) : 0;

    self->carry_rows = frnn_arena_take(arena, carries, sizeof *self->carry_rows);
    self->between = frnn_arena_take(arena, self->layers, sizeof *self->between);
    self->fronts = frnn_arena_take(arena, wavefront ? self->layers : 0, sizeof *self->fronts);
    self->scratch = frnn_arena_take(arena, threads, sizeof *self->scratch);
    for (size_t l = 0; l < self->layers; l++) {
        const bool own = l + 1 < self->layers || !self->sink.base;
        const frnn_sequence out = self->record ? recorded_outputs(self, l) : own ? make_ring(self) : self->sink;
        if (arena->base)
            self->between[l] = out;
    }
    self->carry = frnn_arena_take(arena, carries, frnn_carry_bytes(self->params));
    for (size_t i = 0; i < threads; i++) {
        static const frnn_scratch nothing;
        const frnn_scratch scratch = make_scratch(self, i == 0 || wavefront ? NULL
                                                        : arena->base       ? &self->scratch[0]
                                                                            : &nothing);
        if (arena->base)
            self->scratch[i] = scratch;
    }
}

/* Where a state beside h of a row is: in the row's carry. */
static char *kept_state(const frnn_strand *self, size_t state, size_t layer, size_t row)
{
    return (char *)self->carry_rows[layer * self->n + row] +
           (state - 1) * layer_of(self, layer)->stage[0].vector_row_bytes;
}

static void fill_start(frnn_strand *self)
{
    const frnn_params *params = self->params;
    const size_t H = params->spec.hidden_size * params->number_bytes;
    const size_t padded = layer_of(self, 0)->stage[0].vector_row_bytes;
    for (size_t i = 0; i < self->layers * self->n && params->carried; i++)
        self->carry_rows[i] = self->carry + i * frnn_carry_bytes(params);
    for (size_t s = 1; s < params->states; s++)
        for (size_t i = 0; i < self->layers * self->n; i++) {
            char *to = kept_state(self, s, i / self->n, i % self->n);
            memcpy(to, initial(self, s, i / self->n, i % self->n), H);
            memset(to + H, 0, padded - H);
        }
    for (size_t l = 0; l < self->layers && self->plan.layer_threads > 1; l++) {
        atomic_init(&self->fronts[l].taken, false);
        atomic_init(&self->fronts[l].done, 0);
    }
}

/* A thread at work on a strand. */
typedef struct context {
    frnn_strand *strand;
    frnn_scratch scratch;
    size_t share, shares; /* of the units */
    bool alone;           /* no other thread takes part in the call */
    bool asks;            /* it runs on the calling thread, and the call has a question */
} context;

/* A row that a token names lies anywhere: it comes near while rows before it are multiplied. */
static void fetch(const char *row, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += FRNN_ALIGNMENT)
        __builtin_prefetch(row + at, 0, 2);
}

/* The x part of all steps of a chunk, in one product. */
static void keep_inputs(context *self, size_t layer, size_t begin, size_t end, size_t active)
{
    frnn_strand *strand = self->strand;
    const frnn_lookup lookup = lookup_of(strand);
    const size_t x_bytes = strand->params->spec.input_size * strand->params->number_bytes;
    size_t n = 0;
    for (size_t step = begin; step < end; step++) {
        active = active_at(strand, step, active);
        for (size_t r = 0; r < active; r++) {
            const void *x = at(strand, source_of(strand, layer), step, r);
            if (reads_tokens(strand, layer))
                fetch(x = frnn_row_of_token(&lookup, x), x_bytes);
            self->scratch.x[n++] = x;
        }
    }
    for (int s = 0; s < layer_of(strand, layer)->stages; s++) {
        const frnn_stage *stage = &layer_of(strand, layer)->stage[s];
        const frnn_inputs inputs = {n,           self->scratch.x, self->scratch.sums[s], self->scratch.x_integers,
                                    self->share, self->shares};
        if (stage->takes_x)
            strand->params->kernels->input(stage, &inputs);
    }
}

/* The states beside h of a row become zeros: of the units of this thread's share, which no other thread reads. */
static void forget(const context *self, size_t layer, size_t row)
{
    const frnn_strand *strand = self->strand;
    const frnn_stage *stage = &layer_of(strand, layer)->stage[0];
    const size_t vector = strand->params->kernels->width * strand->params->number_bytes;
    const size_t begin = frnn_share_of(stage->blocks, self->share, self->shares) * vector;
    const size_t end = frnn_share_of(stage->blocks, self->share + 1, self->shares) * vector;
    for (size_t s = 1; s < strand->params->states; s++)
        memset(kept_state(strand, s, layer, row) + begin, 0, end - begin);
}

/* h of a row before the first one of the steps that the kernel takes: a row that resets forgets its others too. */
static const void *h_before(const context *self, size_t layer, size_t step, size_t row)
{
    const frnn_strand *strand = self->strand;
    if (strand->call->resets && is_reset(strand, step, row)) {
        forget(self, layer, row);
        return strand->params->zeros;
    }
    return step > strand->from ? at(strand, &strand->between[layer], step - 1, row) : initial(strand, 0, layer, row);
}

static void meet(void *strand) { frnn_team_meet(&((frnn_strand *)strand)->team); }

/* Consecutive steps of one layer, for the first n rows, whose kept sums (if any) start at row `kept`. */
static void run_steps(context *self, size_t layer, size_t begin, size_t end, size_t n, size_t kept)
{
    frnn_strand *strand = self->strand;
    const frnn_sequence *source = source_of(strand, layer), *sink = &strand->between[layer];
    const bool is_wide = self->scratch.of_wide == layer_of(strand, layer);
    const bool ahead = is_ahead(strand, layer), looks_up = !ahead && reads_tokens(strand, layer);
    frnn_lookup lookup;
    if (looks_up)
        lookup = lookup_of(strand);
    frnn_steps steps = {
        .layer = layer_of(strand, layer),
        .n = n,
        .steps = end - begin,
        .x = ahead ? NULL : self->scratch.x,
        .lookup = looks_up ? &lookup : NULL,
        .found = self->scratch.found,
        .h = self->scratch.h,
        .y = self->scratch.y,
        .x_step = step_bytes(strand, source),
        .y_step = step_bytes(strand, sink),
        .middle = self->scratch.middle,
        .x_integers = self->scratch.x_integers,
        .h_integers = self->scratch.h_integers,
        .wide = (is_wide || end - begin > 1) && (ahead || n > 1) ? self->scratch.wide : NULL,
        .is_wide = is_wide,
        .carry = strand->params->carried ? strand->carry_rows + layer * strand->n : NULL,
        .parity = strand->parity + begin,
        .share = self->share,
        .shares = self->shares,
        .meet = meet,
        .context = strand,
    };
    steps.from_zeros = true;
    for (size_t r = 0; r < n; r++) {
        steps.y[r] = at(strand, sink, begin, r);
        steps.h[r] = h_before(self, layer, begin, r);
        steps.from_zeros = steps.from_zeros && steps.h[r] == strand->params->zeros;
        if (!ahead)
            steps.x[r] = at(strand, source, begin, r);
    }
    for (int s = 0; s < steps.layer->stages; s++) {
        const frnn_stage *stage = &steps.layer->stage[s];
        if (ahead && stage->takes_x)
            steps.sums[s] = self->scratch.sums[s] + kept * stage->sums_row_bytes;
        if (!strand->record || !stage->takes_x)
            continue;
        const frnn_sequence kept_sums = frnn_record_sums(strand->record, index_of(strand, layer), s);
        steps.tape[s] = self->scratch.tape[s];
        steps.tape_step[s] = step_bytes(strand, &kept_sums);
        for (size_t r = 0; r < n; r++)
            steps.tape[s][r] = at(strand, &kept_sums, begin, r);
    }
    if (steps.wide)
        self->scratch.of_wide = steps.layer;
    strand->params->kernels->steps(&steps);
}

/* The first step after one that is marked: that of a segment. */
static size_t next_mark(const frnn_strand *self, size_t step)
{
    return self->marks ? (step / self->marks->segment + 1) * self->marks->segment : SIZE_MAX;
}

/* Whether one of n bytes is not 0: eight at a time, since most steps reset no row. */
static bool any_set(const unsigned char *bytes, size_t n)
{
    uint64_t word, any = 0;
    for (; n >= sizeof word; bytes += sizeof word, n -= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        any |= word;
    }
    while (n--)
        any |= *bytes++;
    return any;
}

/* Whether a row of the batch may reset at a step, as far as a glance at all rows of its time shows. */
static bool may_reset(const frnn_strand *self, size_t step)
{
    const frnn_call *call = self->call;
    if (call->reset_row != 1 || (call->lengths && is_reverse(self)))
        return true;
    const size_t time = is_reverse(self) ? call->T - 1 - step : step;
    return any_set(call->resets + (ptrdiff_t)time * call->reset_time, call->B);
}

/* The first step after one, and before an end, at which one of the first n rows resets; or this end. */
static size_t next_reset(const frnn_strand *self, size_t step, size_t end, size_t n)
{
    if (!self->call->resets)
        return end;
    while (++step < end)
        for (size_t r = 0, some = may_reset(self, step) ? n : 0; r < some; r++)
            if (is_reset(self, step, r))
                return step;
    return end;
}

/* Keeps the states before a step of the first n rows. */
static void mark(const frnn_strand *self, size_t layer, size_t step, size_t n)
{
    const frnn_params *params = self->params;
    const size_t H = params->spec.hidden_size * params->number_bytes, out = params->out * params->number_bytes;
    const size_t segment = step / self->marks->segment, index = index_of(self, layer);
    for (size_t r = 0; r < n; r++) {
        memcpy(frnn_tape_mark(self->marks, 0, segment, index, self->rows[r]),
               at(self, &self->between[layer], step - 1, r), out);
        for (size_t s = 1; s < params->states; s++)
            memcpy(frnn_tape_mark(self->marks, s, segment, index, self->rows[r]), kept_state(self, s, layer, r), H);
    }
}

/* One chunk of one layer, `active` rows having steps at its beginning. Threads that share the units meet while the states
 * are what they were before a segment. */
static void run_chunk(context *self, size_t layer, size_t begin, size_t end, size_t active)
{
    const frnn_strand *strand = self->strand;
    if (is_ahead(strand, layer))
        keep_inputs(self, layer, begin, end, active);
    for (size_t step = begin, kept = 0, until; step < end; kept += active * (until - step), step = until) {
        active = active_at(strand, step, active);
        const size_t shortest = length_of(strand, active - 1), marked = next_mark(strand, step);
        until = shortest < end ? shortest : end;
        until = next_reset(strand, step, marked < until ? marked : until, active);
        run_steps(self, layer, step, until, active, kept);
        if (until != marked || until >= strand->until)
            continue;
        if (self->share == 0)
            mark(strand, layer, until, active);
        if (self->shares > 1)
            meet(self->strand);
    }
}

/* Where the steps of the longest row end, or those that are run. */
static size_t end_of(const frnn_strand *self)
{
    const size_t longest = self->n ? length_of(self, 0) : 0;
    return longest < self->until ? longest : self->until;
}

static void run_chunk_at(context *self, size_t layer, size_t begin)
{
    const size_t end = end_of(self->strand), chunk = self->strand->plan.chunk;
    run_chunk(self, layer, begin, end - begin < chunk ? end : begin + chunk,
              active_at(self->strand, begin, self->strand->n));
}

/* All chunks, layer by layer. Threads that share the units meet before each chunk to agree on whether to go on. */
static void run_layers(context *self)
{
    frnn_strand *strand = self->strand;
    for (size_t begin = strand->from; begin < end_of(strand); begin += strand->plan.chunk) {
        if (self->share == 0)
            strand->goes_on = frnn_goes_on(strand->progress, self->asks, self->alone);
        if (self->shares > 1)
            meet(strand);
        if (!strand->goes_on)
            break;
        for (size_t layer = 0; layer < strand->layers; layer++)
            run_chunk_at(self, layer, begin);
    }
}

/* Takes a layer's next chunk if the layer below has computed its input, and the ring to the layer above has room. */
static bool take_chunk(frnn_strand *self, size_t layer, size_t chunks)
{
    frnn_front *front = &self->fronts[layer];
    if (atomic_load_explicit(&front->taken, memory_order_relaxed) ||
        atomic_exchange_explicit(&front->taken, true, memory_order_acquire))
        return false;
    const size_t next = atomic_load_explicit(&front->done, memory_order_relaxed);
    const bool ready = !layer || atomic_load_explicit(&front[-1].done, memory_order_acquire) > next;
    const bool room = layer + 1 == self->layers ||
                      next < atomic_load_explicit(&front[1].done, memory_order_acquire) + FRNN_WAVEFRONT_CHUNKS;
    if (next < chunks && ready && room)
        return true;
    atomic_store_explicit(&front->taken, false, memory_order_release);
    return false;
}

/* Takes any chunk that is ready, until none is left: of the layer of the last chunk if possible, whose weights are in
 * this thread's cache. */
static void run_wavefront(context *self)
{
    frnn_strand *strand = self->strand;
    const size_t chunk = strand->plan.chunk, from = strand->from, end = end_of(strand);
    const size_t chunks = end > from ? (end - from - 1) / chunk + 1 : 0;
    const frnn_front *last = &strand->fronts[strand->layers - 1];
    size_t layer = 0, misses = 0;
    while (atomic_load_explicit(&last->done, memory_order_acquire) < chunks &&
           frnn_goes_on(strand->progress, self->asks, self->alone)) {
        if (take_chunk(strand, layer, chunks)) {
            frnn_front *front = &strand->fronts[layer];
            run_chunk_at(self, layer, from + chunk * atomic_load_explicit(&front->done, memory_order_relaxed));
            atomic_fetch_add_explicit(&front->done, 1, memory_order_release);
            atomic_store_explicit(&front->taken, false, memory_order_release);
            misses = 0;
        } else {
            layer = (layer + 1) % strand->layers;
            if (++misses % strand->layers == 0)
                frnn_pause(misses / strand->layers);
        }
    }
}

/* Final states, the last step's output, and zeros past the ends: of one layer. */
static void write_results(frnn_strand *self, size_t layer)
{
    const frnn_call *call = self->call;
    const frnn_params *params = self->params;
    const size_t H = params->spec.hidden_size * params->number_bytes, out = params->out * params->number_bytes;
    for (size_t r = 0; r < self->n; r++) {
        const size_t length = length_of(self, r), row = self->rows[r];
        const size_t index = index_of(self, layer) * call->B + row;
        const void *h = length ? at(self, &self->between[layer], length - 1, r) : initial(self, 0, layer, r);
        memcpy((char *)call->final[0] + index * out, h, out);
        for (size_t s = 1; s < params->states; s++)
            memcpy((char *)call->final[s] + index * H, kept_state(self, s, layer, r), H);
        if (self->first + layer + 1 < params->spec.num_layers)
            continue;
        char *y = (char *)call->y + (ptrdiff_t)row * call->y_row + (ptrdiff_t)(self->direction * out);
        if (!call->return_sequences)
            memcpy(y, h, out);
        for (size_t s = 0; s < length && call->return_sequences && self->record; s++) {
            const ptrdiff_t t = (ptrdiff_t)(is_reverse(self) ? length - 1 - s : s);
            memcpy(y + t * call->y_time, at(self, &self->between[layer], s, r), out);
        }
        for (size_t t = length; t < call->T && call->return_sequences; t++)
            memset(y + (ptrdiff_t)t * call->y_time, 0, out);
    }
}

/* Lays the strand out, and waits a little for the threads that are to share it. */
static bool begin(frnn_strand *self, frnn_thread_context where, void *local, size_t local_bytes)
{
    lay_out(self);
    const bool ready = frnn_arena_allocate(&self->arena, local, local_bytes);
    if (ready) {
        lay_out(self);
        fill_start(self);
    } else {
        frnn_give_up(self->progress, FRNN_NO_MEMORY);
    }
    const size_t others = ready && !where.alone ? self->plan.unit_threads - 1 : 0;
    const bool closes = self->plan.layer_threads == 1;
    const size_t came = closes ? frnn_team_close(&self->team, others, frnn_plan_patience(&self->plan)) : 0;
    frnn_team_begin(&self->team, ready ? 1 + came : 0, self->progress->forks);
    return ready;
}

void frnn_strand_run(frnn_strand *strand, bool first, frnn_thread_context where, void *local, size_t local_bytes)
{
    context self = {.strand = strand, .shares = 1, .alone = where.alone};
    const uint64_t mode = where.caller ? 0 : frnn_enter_float_mode(); /* the calling thread is in this mode already */
    self.asks = where.caller && strand->call->interrupted && strand->plan.alone > FRNN_SHORT_SECONDS;
    const size_t index = first ? 0 : frnn_team_join(&strand->team, strand->progress->forks);
    if (first ? begin(strand, where, local, local_bytes) : index > 0) {
        self.scratch = strand->scratch[index];
        if (strand->plan.layer_threads > 1) {
            run_wavefront(&self);
        } else {
            self.share = index;
            self.shares = strand->team.n;
            run_layers(&self);
        }
    }
    if (!where.caller)
        frnn_leave_float_mode(mode);
}

void frnn_strand_end(frnn_strand *strand)
{
    if (strand->call->final[0] && strand->team.n && frnn_is_on(strand->progress))
        for (size_t layer = 0; layer < strand->layers; layer++)
            write_results(strand, layer);
    free(strand->arena.memory);
}

size_t frnn_strand_bytes(frnn_strand *strand)
{
    strand->arena = (frnn_arena){0};
    lay_out(strand);
    return strand->arena.too_large ? SIZE_MAX : strand->arena.used;
}
