#include "transposed.h"

#include "arena.h"
#include "pages.h"

frnn_gradient_row frnn_gradient_row_of(const frnn_spec *spec, bool peepholes)
{
    const size_t H = spec->hidden_size, P = spec->proj_size;
    frnn_gradient_row row = {.numbers = frnn_cell_gates(spec->cell) * H};
    if (spec->cell == FRNN_GRU) {
        row.x = spec->reset_after ? H : 0;
        row.reset = 3 * H;
        row.numbers += H;
    }
    row.projected = row.numbers;
    row.numbers += P ? P + H : 0;
    row.peephole = row.numbers;
    row.numbers += peepholes ? 3 * H : 0;
    return row;
}

/* Rows of U, W or V that lie together: `count` of them, the first being `from`. */
typedef struct part {
    const void *rows;
    size_t from, count;
} part;

typedef struct making {
    const frnn_params *params;
    const frnn_weights *weights;
    frnn_arena *arena;
    const void *zeros;
} making;

/* A stage with one sum of so many units, whose matrix is made of parts side by side, as its U or its W. */
static frnn_stage make_stage(const making *m, frnn_stage_kind kind, const frnn_stage *like, size_t units, bool as_W,
                             const part *parts, size_t n)
{
    const frnn_params *params = m->params;
    const size_t width = params->kernels->width, blocks = (units + width - 1) / width;
    size_t K = 0;
    for (size_t i = 0; i < n; i++)
        K += parts[i].count;
    frnn_matrix matrix = frnn_matrix_of(like->U.format, units, 1, K, width);
    void *panels = frnn_arena_take(m->arena, 1, matrix.bytes);
    matrix.panels = panels;
    for (size_t i = 0, at = 0; i < n && panels; at += parts[i].count, i++)
        if (units)
            frnn_matrix_pack_transposed(&matrix, panels,
                                        (const char *)parts[i].rows + parts[i].from * units * params->number_bytes, at,
                                        parts[i].count);
    const frnn_matrix none = frnn_matrix_of(like->U.format, units, 1, 0, width);
    return (frnn_stage){
        .kind = kind,
        .gates = 1,
        .sums = 1,
        .units = units,
        .blocks = blocks,
        .standard = like->standard,
        .spec = like->spec,
        .W = as_W ? matrix : none,
        .U = as_W ? none : matrix,
        .bias = m->zeros,
        .zero_h = m->zeros,
        .peephole = like->peephole,
        .vector_row_bytes = blocks * width * params->number_bytes,
        .sums_row_bytes = blocks * width * params->number_bytes,
    };
}

static frnn_back_layer make_layer(const making *m, const frnn_layer *layer, size_t I)
{
    const frnn_spec *spec = &m->params->spec;
    const frnn_weights *w = m->weights;
    const frnn_stage *like = &layer->stage[0];
    const size_t H = spec->hidden_size, P = spec->proj_size, G = frnn_cell_gates(spec->cell), out = m->params->out;
    const part all_W = {w->W, 0, G * H}, all_U = {w->U, 0, G * H}, V = {w->V, 0, P};
    const part n_first[] = {{w->U, 2 * H, H}, {w->U, 0, 2 * H}}, reset_and_update = {w->U, 0, 2 * H};
    frnn_back_layer back = {.row = frnn_gradient_row_of(spec, like->peephole != NULL)};
    frnn_stage *stages = back.steps.stage;
    back.steps.stages = 1;
    switch (layer->stage[0].kind) {
    case FRNN_STAGE_GRU: stages[0] = make_stage(m, FRNN_STAGE_GRU_BACK, like, out, false, n_first, 2); break;
    case FRNN_STAGE_GRU_RESET:
        stages[0] = make_stage(m, FRNN_STAGE_GRU_NEW_BACK, like, out, false, &reset_and_update, 1);
        stages[1] = make_stage(m, FRNN_STAGE_GRU_RESET_BACK, like, H, false, n_first, 1);
        back.steps.stages = 2;
        break;
    case FRNN_STAGE_LSTM:
        stages[0] = make_stage(m, P ? FRNN_STAGE_PROJECT_BACK : FRNN_STAGE_LSTM_BACK, like, out, false, &all_U, 1);
        if (P)
            stages[1] = make_stage(m, FRNN_STAGE_LSTM_BACK, like, H, false, &V, 1);
        back.steps.stages = P ? 2 : 1;
        break;
    default: stages[0] = make_stage(m, FRNN_STAGE_RNN_BACK, like, out, false, &all_U, 1);
    }
    back.to_h = stages[0];
    back.to_h.W = stages[0].U;
    back.to_x = make_stage(m, FRNN_STAGE_PROJECT_BACK, like, I, true, &all_W, 1);
    return back;
}

static void make_layers(frnn_transposed *all, frnn_arena *arena, const frnn_params *params, const frnn_weights *weights)
{
    const size_t out = params->D * params->out, width = params->kernels->width;
    const size_t I = params->spec.input_size, H = params->spec.hidden_size;
    const size_t longest = (out > I ? out : I) > H ? (out > I ? out : I) : H;
    const size_t zeros_bytes = ((longest + width - 1) / width) * width * params->number_bytes;
    void *zeros = frnn_arena_take(arena, 1, zeros_bytes);
    if (zeros)
        memset(zeros, 0, zeros_bytes);
    for (size_t i = 0; i < params->spec.num_layers * params->D; i++) {
        const making m = {params, &weights[i], arena, zeros};
        all->layers[i] = make_layer(&m, &params->layers[i], i < params->D ? I : out);
    }
    all->bytes = arena->used;
}

frnn_status frnn_transposed_new(const frnn_params *params, const frnn_weights *weights, frnn_transposed **transposed)
{
    const size_t n = params->spec.num_layers * params->D;
    frnn_transposed *all = malloc(sizeof *all + n * sizeof *all->layers);
    frnn_arena arena = {0};
    if (!all)
        return FRNN_NO_MEMORY;
    make_layers(all, &arena, params, weights);
    if (!frnn_arena_allocate_pages(&arena)) {
        free(all);
        return FRNN_NO_MEMORY;
    }
    all->memory = arena.memory;
    make_layers(all, &arena, params, weights);
    *transposed = all;
    return FRNN_OK;
}

size_t frnn_transposed_bytes(const frnn_transposed *transposed) { return transposed->bytes; }

void frnn_transposed_free(frnn_transposed *transposed)
{
    if (transposed)
        frnn_pages_give(transposed->memory);
    free(transposed);
}
