/* Rows of a batch as streams of a pool, which step and run in any company, come and go: they have the bits of the call.
 * Where the layer has a vocabulary, x is its embedding, and token t B + row names the row of x of a step. */
#ifndef POOLED_H
#define POOLED_H

#include "layers.h"

typedef struct pooled {
    const layer *l;
    const batch *b;         /* whose lengths are not used */
    const result *expected; /* of a call that gives all steps */
    frnn_pool *pool;
    frnn_id *ids; /* of each row */
    size_t *done; /* steps of each row */
} pooled;

static void check_numbers(const pooled *c, const void *got, const void *expected, size_t n, const char *promise)
{
    must(first_difference(got, expected, n, c->l->spec.dtype) == n, promise);
}

/* What a state is called with: those of one row, from (L, B, size). */
static void row_of_states(const pooled *c, const batch *b, size_t row, frnn_array to[])
{
    const size_t h_row = c->l->out * c->l->element, c_row = c->l->spec.hidden_size * c->l->element;
    to[0] = dense(b->h, b->B, h_row), to[1] = dense(b->c, b->B, c_row);
    to[0].data = b->h ? (const char *)b->h + row * h_row : NULL;
    to[1].data = b->c ? (const char *)b->c + row * c_row : NULL;
}

/* Some of the rows that have steps left, in any order, and their ids. Answers how many. */
static size_t choose_rows(const pooled *c, size_t *rows, frnn_id *ids)
{
    size_t n = 0;
    for (size_t r = 0; r < c->b->B; r++)
        if (c->done[r] < c->b->T && pick(3)) {
            const size_t at = pick(n + 1);
            rows[n++] = rows[at];
            rows[at] = r;
        }
    for (size_t i = 0; i < n; i++)
        ids[i] = c->ids[rows[i]];
    return n;
}

static size_t x_bytes(const pooled *c, frnn_tokens tokens)
{
    const size_t of_token = tokens == FRNN_TOKENS_32 ? sizeof(int32_t) : sizeof(int64_t);
    return tokens ? of_token : c->l->spec.input_size * c->l->element;
}

/* The input of a step: numbers, or the token that names them. */
static void write_x(const pooled *c, void *to, size_t t, size_t row, frnn_tokens tokens)
{
    const size_t number = t * c->b->B + row;
    if (tokens == FRNN_TOKENS_32)
        *(int32_t *)to = (int32_t)number;
    else if (tokens == FRNN_TOKENS_64)
        *(int64_t *)to = (int64_t)number;
    else
        memcpy(to, (const char *)c->b->x + number * x_bytes(c, tokens), x_bytes(c, tokens));
}

static const char *y_at(const pooled *c, size_t t, size_t row)
{
    return (const char *)c->expected->y + (t * c->b->B + row) * c->l->out * c->l->element;
}

/* `steps` steps of n rows, of each row at most those that it has left: as one step where that is 1, else as a run. */
static void advance(pooled *c, size_t n, const size_t *rows, const frnn_id *ids, size_t steps, size_t threads)
{
    const layer *l = c->l;
    const frnn_tokens tokens = l->spec.vocabulary ? (frnn_tokens)pick(3) : FRNN_NO_TOKENS;
    const size_t x_row = x_bytes(c, tokens), y_row = l->out * l->element;
    char *x = allocate_unset(n * steps, x_row), *y = allocate_unset(n * steps, y_row);
    size_t *lengths = allocate(n, sizeof *lengths);
    for (size_t i = 0; i < n; i++) {
        const size_t left = c->b->T - c->done[rows[i]];
        lengths[i] = left < steps ? left : steps;
        for (size_t t = 0; t < lengths[i]; t++)
            write_x(c, x + (i * steps + t) * x_row, c->done[rows[i]] + t, rows[i], tokens);
    }
    const frnn_call call = {
        .T = steps,
        .B = n,
        .x = {x, (ptrdiff_t)x_row, (ptrdiff_t)(steps * x_row)},
        .tokens = tokens,
        .lengths = lengths,
        .return_sequences = true,
        .y = y,
        .y_time = (ptrdiff_t)y_row,
        .y_row = (ptrdiff_t)(steps * y_row),
        .threads = threads,
    };
    must((steps == 1 ? frnn_pool_step(c->pool, n, ids, x, (ptrdiff_t)x_row, tokens, y, (ptrdiff_t)y_row, threads)
                     : frnn_pool_run(c->pool, ids, &call)) == FRNN_OK,
         "streams of a pool go on");
    for (size_t i = 0; i < n; i++) {
        for (size_t t = 0; t < lengths[i]; t++)
            check_numbers(c, y + (i * steps + t) * y_row, y_at(c, c->done[rows[i]] + t, rows[i]), l->out,
                          "a stream of a pool has the bits of its row");
        c->done[rows[i]] += lengths[i];
    }
    free(x), free(y), free(lengths);
}

/* A step with a token that names no row moves no stream. */
static void check_wrong_token(const pooled *c, size_t row)
{
    const size_t rows = c->b->T * c->b->B;
    int64_t token = pick(2) ? -1 : (int64_t)rows;
    char *y = allocate_unset(c->l->out, c->l->element);
    if (c->l->spec.vocabulary)
        must(frnn_pool_step(c->pool, 1, &c->ids[row], &token, 0, FRNN_TOKENS_64, y, 0, 1) == FRNN_NO_SUCH_TOKEN,
             "a pool refuses a token that names no row");
    free(y);
}

/* A stream is closed, and goes on as another one, with its state. */
static void move_stream(pooled *c, size_t row)
{
    result state = new_result(c->l, 0, 1);
    const batch one = {.B = 1, .h = state.h, .c = state.c};
    frnn_array given[FRNN_MOST_STATES];
    const frnn_id before = c->ids[row];
    frnn_pool_get_states(c->pool, 1, &before, (void *[]){state.h, state.c});
    frnn_pool_close(c->pool, 1, &before);
    must(frnn_pool_find_wrong(c->pool, 1, &before) == 0, "a closed stream is found out");
    must(frnn_pool_open(c->pool, &c->ids[row]) == FRNN_OK, "a stream is opened");
    must(c->ids[row] != before && frnn_pool_find_wrong(c->pool, 1, &before) == 0, "no id is given again");
    row_of_states(c, &one, 0, given);
    frnn_pool_set_states(c->pool, 1, &c->ids[row], given);
    free_result(&state);
}

/* All streams go on in another pool, which has the same ids. */
static void move_pool(pooled *c)
{
    const size_t n = frnn_pool_ids(c->pool, NULL);
    frnn_id *ids = allocate(n, sizeof *ids);
    frnn_pool *pool;
    result states = new_result(c->l, 0, n);
    const batch all = {.B = n, .h = states.h, .c = states.c};
    frnn_array given[FRNN_MOST_STATES];
    must(frnn_pool_ids(c->pool, ids) == n && frnn_pool_find_wrong(c->pool, n, ids) == n, "open streams are counted");
    frnn_pool_get_states(c->pool, n, ids, (void *[]){states.h, states.c});
    must(frnn_pool_new(c->l->params, 1 + pick(4), &pool) == FRNN_OK, "a pool is made");
    must(frnn_pool_restore(pool, n, ids, frnn_pool_latest(c->pool)) == FRNN_OK, "a pool is restored");
    row_of_states(c, &all, 0, given);
    frnn_pool_set_states(pool, n, ids, given);
    frnn_pool_free(c->pool);
    c->pool = pool;
    free(ids), free_result(&states);
}

static void open_streams(pooled *c, bool from_zeros)
{
    must(frnn_pool_new(c->l->params, 1 + pick(4), &c->pool) == FRNN_OK, "a pool is made");
    for (size_t r = 0; r < c->b->B; r++) {
        frnn_array given[FRNN_MOST_STATES];
        must(frnn_pool_open(c->pool, &c->ids[r]) == FRNN_OK, "a stream is opened");
        row_of_states(c, c->b, r, given);
        if (!from_zeros)
            frnn_pool_set_states(c->pool, 1, &c->ids[r], given);
    }
    must(frnn_pool_ids(c->pool, NULL) == c->b->B && frnn_pool_capacity(c->pool) >= c->b->B, "a pool grows");
}

/* Until all rows are at their end. Threads are rarely several: to wake them takes longer than all else. */
static void advance_all(pooled *c)
{
    const size_t B = c->b->B;
    size_t *rows = allocate(B, sizeof *rows), left = B * c->b->T;
    frnn_id *ids = allocate(B, sizeof *ids);
    while (left) {
        const size_t n = choose_rows(c, rows, ids);
        must(frnn_pool_find_wrong(c->pool, n, ids) == n, "open streams are no wrong ones");
        must(n == 0 || frnn_pool_find_wrong(c->pool, 2, (frnn_id[]){ids[0], ids[0]}) == 1, "twice is wrong");
        advance(c, n, rows, ids, pick(4) ? 1 : 1 + pick(5), pick(16) ? 1 : 3);
        if (pick(4) == 0)
            move_stream(c, pick(B));
        if (pick(4) == 0)
            check_wrong_token(c, pick(B));
        if (pick(16) == 0)
            move_pool(c);
        left = 0;
        for (size_t r = 0; r < B; r++)
            left += c->b->T - c->done[r];
        if (choices.given && !choices.left) /* every choice is 0, and no row would ever be chosen */
            for (size_t r = 0; r < B; r++)
                advance(c, c->done[r] < c->b->T, &r, &c->ids[r], 1, 1);
    }
    free(rows), free(ids);
}

/* expected: of the batch without lengths, from its states or from zeros. */
static void check_pooled(const layer *l, const batch *b, const result *expected, bool from_zeros)
{
    pooled c = {.l = l, .b = b, .expected = expected};
    c.ids = allocate(b->B, sizeof *c.ids), c.done = allocate(b->B, sizeof *c.done);
    open_streams(&c, from_zeros);
    advance_all(&c);
    result last = new_result(l, 0, b->B);
    frnn_pool_get_states(c.pool, b->B, c.ids, (void *[]){last.h, last.c});
    check_numbers(&c, last.h, expected->h, h_count(l, b->B), "a stream of a pool ends with the state of its row");
    if (has_c(l))
        check_numbers(&c, last.c, expected->c, c_count(l, b->B), "a stream of a pool ends with the state of its row");
    frnn_pool_free(c.pool);
    free(c.ids), free(c.done), free_result(&last);
}

#endif
