#include "back.h"

void frnn_terms_lay_out(frnn_back *back, frnn_arena *arena, size_t rows)
{
    frnn_terms *terms = &back->terms;
    const size_t most = rows + FRNN_CHAIN;
    terms->gradients = frnn_arena_take(arena, most, sizeof *terms->gradients);
    terms->x = frnn_arena_take(arena, most, sizeof *terms->x);
    terms->h = frnn_arena_take(arena, most, sizeof *terms->h);
    const size_t kept = frnn_tape_is_marked(back->tape) ? FRNN_CHAIN : 0;
    terms->kept = frnn_arena_take(arena, FRNN_CHAIN, back->row_bytes);
    terms->kept_x = frnn_arena_take(arena, kept, back->source_row);
    terms->kept_h = frnn_arena_take(arena, kept, back->params->out * back->number);
    terms->n = 0;
}

void frnn_terms_take(frnn_back *back, size_t begin, size_t end)
{
    frnn_terms *terms = &back->terms;
    const frnn_lookup *lookup = &back->tape->lookup;
    const bool tokens = lookup->tokens && back->index < back->params->D; /* of the lowest layer */
    for (size_t step = end; step-- > begin;)
        for (size_t rank = 0, n = frnn_back_active(back->tape, step); rank < n; rank++) {
            const size_t row = back->tape->rows[rank];
            terms->gradients[terms->n] = frnn_back_gradients(back, end, step, rank);
            const void *x = frnn_back_at(back, &back->source, step, row);
            terms->x[terms->n] = tokens ? frnn_row_of_token(lookup, x) : x;
            terms->h[terms->n++] = frnn_back_h(back, step, row);
        }
}

size_t frnn_terms_ready(const frnn_back *back, bool all)
{
    return all ? back->terms.n : back->terms.n / FRNN_CHAIN * FRNN_CHAIN;
}

/* Rows from n on are the first ones now, copied to where they stay. */
static void move_rows(const void **rows, char *kept, size_t bytes, size_t n, size_t left)
{
    for (size_t i = 0; i < left; i++)
        rows[i] = memmove(kept + i * bytes, rows[n + i], bytes);
}

void frnn_terms_drop(frnn_back *back, size_t n)
{
    frnn_terms *terms = &back->terms;
    const size_t left = terms->n - n;
    move_rows(terms->gradients, terms->kept, back->row_bytes, n, left);
    if (frnn_tape_is_marked(back->tape)) {
        move_rows(terms->x, terms->kept_x, back->source_row, n, left);
        move_rows(terms->h, terms->kept_h, back->params->out * back->number, n, left);
    } else {
        memmove(terms->x, terms->x + n, left * sizeof *terms->x);
        memmove(terms->h, terms->h + n, left * sizeof *terms->h);
    }
    terms->n = left;
}

/* A gradient of weights: columns of rows of gradients, each times a row of b. */
typedef struct product {
    const void *const *a, *const *b;
    size_t a_from, a_columns, b_from, b_columns;
    void *to;
} product;

enum {
    MOST_PRODUCTS = 8,
    SLICED = 6 /* rows of a result that stay in one slice: a multiple of the rows of every kernel's tile */
};

typedef struct products {
    const frnn_back *back;
    size_t n;
    product list[MOST_PRODUCTS];
} products;

static void add_outer(products *all, size_t from, size_t columns, const void *const *b, size_t b_from, size_t b_columns,
                      void *to)
{
    const void *const *a = (const void *const *)all->back->terms.gradients;
    if (to && columns && b_columns)
        all->list[all->n++] = (product){a, b, from, columns, b_from, b_columns, to};
}

/* The sums of columns themselves: of biases and peepholes. */
static void add_sums(products *all, size_t from, size_t columns, void *to)
{
    if (to)
        all->list[all->n++] = (product){NULL, (const void *const *)all->back->terms.gradients, 0, 1, from, columns, to};
}

static void *gate_rows(const frnn_back *back, void *array, size_t gate, size_t columns)
{
    return array ? (char *)array + gate * back->params->spec.hidden_size * columns * back->number : NULL;
}

static products products_of(const frnn_back *back)
{
    const frnn_spec *spec = &back->params->spec;
    const frnn_weight_gradients *w = back->weights;
    const frnn_gradient_row *row = &back->layer->row;
    const size_t H = spec->hidden_size, P = spec->proj_size, G = frnn_cell_gates(spec->cell), out = back->params->out;
    const void *const *x = (const void *const *)back->terms.x, *const *h = (const void *const *)back->terms.h;
    const void *const *gradients = (const void *const *)back->terms.gradients;
    products all = {.back = back};
    add_outer(&all, row->x, G * H, x, 0, back->source_row / back->number, w->W);
    add_sums(&all, row->x, G * H, w->b);
    if (spec->cell != FRNN_GRU) {
        add_outer(&all, row->h, G * H, h, 0, out, w->U);
        add_sums(&all, row->h, G * H, w->d);
    } else if (spec->reset_after) {
        add_outer(&all, 0, H, h, 0, out, gate_rows(back, w->U, 2, out));
        add_outer(&all, H, 2 * H, h, 0, out, w->U);
        add_sums(&all, 0, H, gate_rows(back, w->d, 2, 1));
        add_sums(&all, H, 2 * H, w->d);
    } else {
        add_outer(&all, 0, 2 * H, h, 0, out, w->U);
        add_outer(&all, 2 * H, H, gradients, row->reset, H, gate_rows(back, w->U, 2, out));
        add_sums(&all, 0, G * H, w->d);
    }
    if (P)
        add_outer(&all, row->projected, P, gradients, row->projected + P, H, w->V);
    if (w->p)
        add_sums(&all, row->peephole, 3 * H, w->p);
    return all;
}

/* A slice of a product: some of the rows of its result, or some of its columns where it has one row. */
static frnn_outer slice_of(const frnn_back *back, const product *p, size_t n, size_t slice, size_t slices)
{
    frnn_outer outer = {
        .n = n,
        .a = p->a,
        .b = p->b,
        .a_from = p->a_from,
        .a_columns = p->a_columns,
        .b_from = p->b_from,
        .b_columns = p->b_columns,
        .to = p->to,
        .to_row = p->b_columns,
    };
    const bool is_row = !p->a;
    const size_t unit = is_row ? back->params->kernels->width : SLICED, all = is_row ? p->b_columns : p->a_columns;
    const size_t units = (all + unit - 1) / unit, from = units * slice / slices * unit;
    const size_t until = units * (slice + 1) / slices * unit,
                 count = (until < all ? until : all) - (from < all ? from : all);
    if (is_row) {
        outer.b_from += from;
        outer.b_columns = count;
    } else {
        outer.a_from += from;
        outer.a_columns = count;
    }
    outer.to = (char *)p->to + from * (is_row ? 1 : p->b_columns) * back->number;
    return outer;
}

void frnn_terms_add(const frnn_back *back, size_t n, size_t slice, size_t slices, const frnn_back_thread *thread)
{
    const products all = products_of(back);
    for (size_t i = 0; i < all.n && n; i++) {
        frnn_outer rest = slice_of(back, &all.list[i], n, slice, slices);
        if (!rest.a_columns || !rest.b_columns)
            continue;
        for (frnn_outer piece = rest; rest.n; rest.n -= piece.n, rest.b += piece.n) {
            piece = rest;
            piece.scratch = thread->scratch;
            if (piece.n > FRNN_OUTER_ROWS)
                piece.n = FRNN_OUTER_ROWS;
            if (rest.a)
                rest.a += piece.n;
            if (!frnn_goes_on(thread->progress, thread->asks, thread->alone))
                return;
            back->params->kernels->outer(&piece);
        }
    }
}

void frnn_terms_clear(const frnn_back *back)
{
    const frnn_spec *spec = &back->params->spec;
    const frnn_weight_gradients *w = back->weights;
    const size_t H = spec->hidden_size * back->number, rows = frnn_cell_gates(spec->cell) * spec->hidden_size;
    const struct {
        void *array;
        size_t bytes;
    } all[] = {{w->W, rows * back->source_row}, {w->U, rows * back->params->out * back->number},
               {w->b, rows * back->number},     {w->d, rows * back->number},
               {w->V, spec->proj_size * H},     {w->p, 3 * H}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].array)
            memset(all[i].array, 0, all[i].bytes);
}
