#include "embedding.h"

#include "plan.h"

enum { TABLE_ROWS = 96 /* of one product: enough that its panels are read rarely */ };

static void make_rows(frnn_params *params, frnn_arena *arena, const void *E)
{
    const size_t V = params->embedding.V, number = params->number_bytes, I = params->spec.input_size;
    /* Rows of an identity matrix lie over each other: row v begins v numbers before the only 1. */
    char *rows = frnn_arena_take(arena, E ? frnn_arena_product(arena, V, I) : 2 * V - 1, number);
    params->embedding.row = E ? (ptrdiff_t)(I * number) : -(ptrdiff_t)number;
    params->embedding.rows = rows && !E ? rows + (V - 1) * number : rows;
    if (!rows)
        return;
    if (E) {
        memcpy(rows, E, V * I * number);
        return;
    }
    memset(rows, 0, (2 * V - 1) * number);
    if (params->spec.dtype == FRNN_FLOAT32)
        ((float *)rows)[V - 1] = 1;
    else
        ((double *)rows)[V - 1] = 1;
}

static void fill_table(const frnn_params *params, const frnn_stage *stage, void *integers, char *table)
{
    const frnn_embedding *embedding = &params->embedding;
    const void *rows[TABLE_ROWS];
    for (size_t v = 0, n; v < embedding->V; v += n) {
        n = embedding->V - v < TABLE_ROWS ? embedding->V - v : TABLE_ROWS;
        for (size_t i = 0; i < n; i++)
            rows[i] = embedding->rows + (ptrdiff_t)(v + i) * embedding->row;
        params->kernels->input(
            stage,
            &(frnn_inputs){
                .n = n, .x = rows, .sums = table + v * stage->sums_row_bytes, .integers = integers, .shares = 1});
    }
}

void frnn_embedding_make(frnn_params *params, frnn_arena *arena, const void *E, size_t most)
{
    frnn_embedding *embedding = &params->embedding;
    const size_t V = params->spec.vocabulary;
    size_t row = 0; /* of the table, in bytes: of all stages and directions */
    double terms = 0;
    *embedding = (frnn_embedding){.V = V};
    if (V == 0)
        return;
    make_rows(params, arena, E);
    for (size_t d = 0; d < params->D; d++)
        for (int s = 0; s < params->layers[d].stages; s++) {
            row += params->layers[d].stage[s].takes_x ? params->layers[d].stage[s].sums_row_bytes : 0;
            terms += frnn_matrix_terms(&params->layers[d].stage[s].W);
        }
    if (V > most / row || !frnn_table_pays(params, (double)row, terms, (double)(V * row)))
        return;
    embedding->table_bytes = V * row;
    void *integers = frnn_arena_take(arena, TABLE_ROWS, frnn_integer_bytes(&params->layers[0].stage[0].W));
    for (size_t d = 0; d < params->D; d++)
        for (int s = 0; s < params->layers[d].stages; s++) {
            const frnn_stage *stage = &params->layers[d].stage[s];
            if (!stage->takes_x)
                continue;
            char *table = frnn_arena_take(arena, V, stage->sums_row_bytes);
            embedding->table[d][s] = table;
            if (table)
                fill_table(params, stage, integers, table);
        }
}

/* Tokens of a row's steps. */
static bool row_is_known(const char *at, size_t steps, ptrdiff_t step, frnn_tokens tokens, uint64_t V)
{
    bool known = true;
    if (tokens == FRNN_TOKENS_32)
        for (size_t t = 0; t < steps; t++, at += step)
            known &= (uint64_t)*(const int32_t *)at < V; /* a negative number is a huge one */
    else
        for (size_t t = 0; t < steps; t++, at += step)
            known &= *(const uint64_t *)at < V;
    return known;
}

bool frnn_tokens_are_known(const frnn_params *params, const frnn_call *call)
{
    bool known = true;
    for (size_t r = 0; r < call->B && call->tokens && known; r++)
        known =
            row_is_known((const char *)call->x.data + (ptrdiff_t)r * call->x.row,
                         call->lengths ? call->lengths[r] : call->T, call->x.outer, call->tokens, params->embedding.V);
    return known;
}

frnn_row_sums frnn_row_sums_lay_out(const frnn_params *params, frnn_arena *arena)
{
    const size_t V = params->spec.vocabulary;
    frnn_row_sums sums;
    sums.chains = frnn_arena_take(arena, V, frnn_arena_product(arena, params->spec.input_size, params->number_bytes));
    sums.counts = frnn_arena_take(arena, V, sizeof *sums.counts);
    return sums;
}

static void add(char *to, const char *from, size_t n, frnn_dtype dtype)
{
    if (dtype == FRNN_FLOAT32)
        for (size_t i = 0; i < n; i++)
            ((float *)to)[i] += ((const float *)from)[i];
    else
        for (size_t i = 0; i < n; i++)
            ((double *)to)[i] += ((const double *)from)[i];
}

/* The first term of a chain is copied, so that rows of tokens that do not come are never touched. */
static void add_term(const frnn_row_sums *sums, const frnn_params *params, size_t token, const char *term)
{
    const size_t I = params->spec.input_size, row = I * params->number_bytes;
    if (sums->counts[token]++)
        add(sums->chains + token * row, term, I, params->spec.dtype);
    else
        memcpy(sums->chains + token * row, term, row);
}

/* A chain is added to the sum of its token, which starts from zero. */
static void end_chain(const frnn_row_sums *sums, const frnn_params *params, size_t token, char *dE)
{
    const size_t I = params->spec.input_size, at = token * I * params->number_bytes;
    add(dE + at, sums->chains + at, I, params->spec.dtype);
    sums->counts[token] = 0;
}

void frnn_row_sums_add(const frnn_row_sums *sums, const frnn_tape *tape, const char *dx, void *dE,
                       frnn_progress *progress, bool asks)
{
    const frnn_params *params = tape->params;
    const size_t V = params->embedding.V, row = params->spec.input_size * params->number_bytes;
    memset(dE, 0, V * row);
    memset(sums->counts, 0, V);
    for (size_t t = 0; t < tape->T && frnn_goes_on(progress, asks, true); t++)
        for (size_t r = 0; r < tape->B; r++) {
            if (t >= tape->lengths[r])
                continue;
            const size_t token = frnn_token_at(&tape->lookup, tape->x + (t * tape->B + r) * tape->x_row);
            add_term(sums, params, token, dx + (t * tape->B + r) * row);
            if (sums->counts[token] == FRNN_CHAIN)
                end_chain(sums, params, token, dE);
        }
    for (size_t v = 0; v < V; v++)
        if (sums->counts[v])
            end_chain(sums, params, v, dE);
}
