/* The life of params: weights are packed once, for one target, and never written again. */
#include "embedding.h"
#include "pages.h"

/* A layer on its way into the arrays of its stages. */
typedef struct packing {
    const frnn_params *params;
    const frnn_weights *weights;
} packing;

static double number_at(const void *array, size_t index, frnn_dtype dtype)
{
    if (!array)
        return 0;
    return dtype == FRNN_FLOAT32 ? ((const float *)array)[index] : ((const double *)array)[index];
}

static void put_number(void *array, size_t index, frnn_dtype dtype, double value)
{
    if (dtype == FRNN_FLOAT32)
        ((float *)array)[index] = (float)value;
    else
        ((double *)array)[index] = value;
}

/* Both biases of a gate start one chain, so they are added here. A gate with a sum of W x and one of U h has one bias in
 * each: the last `sums - gates` of a stage's gates, as n of a GRU that resets after the product. */
static double bias_of(const packing *p, const frnn_stage *stage, size_t unit, size_t sum)
{
    const frnn_dtype dtype = p->params->spec.dtype;
    const size_t two = stage->sums - stage->gates, first_gate = frnn_stage_row_of(stage->kind)->first_gate;
    const bool of_h = sum >= stage->gates, of_both = sum < stage->gates - two;
    const size_t gate = of_h ? sum - two : sum, row = (first_gate + gate) * stage->units + unit;
    double value = 0;
    if (unit >= stage->units || stage->kind == FRNN_STAGE_PROJECT)
        return value;
    value += of_h ? 0 : number_at(p->weights->b, row, dtype);
    value += of_h || of_both ? number_at(p->weights->d, row, dtype) : 0;
    return value;
}

/* [block][sum][lane] */
static void pack_biases(const packing *p, const frnn_stage *stage, void *to)
{
    const size_t sums = stage->sums, width = p->params->kernels->width;
    for (size_t i = 0; i < stage->blocks * sums * width; i++) {
        const size_t unit = i / (sums * width) * width + i % width, sum = i / width % sums;
        put_number(to, i, p->params->spec.dtype, bias_of(p, stage, unit, sum));
    }
}

/* [block][i f o][lane] */
static void pack_peephole(const packing *p, const frnn_stage *stage, void *to)
{
    const frnn_dtype dtype = p->params->spec.dtype;
    const size_t width = p->params->kernels->width, units = stage->units;
    for (size_t i = 0; i < stage->blocks * 3 * width; i++) {
        const size_t unit = i / (3 * width) * width + i % width, gate = i / width % 3;
        put_number(to, i, dtype, unit < units ? number_at(p->weights->p, gate * units + unit, dtype) : 0);
    }
}

/* U h for h = +0, as the kernel multiplies it, from sums of -0, which change no sum that they are added to. The kernel
 * is given U as a W, whose sums are the first ones; those of gates with two sums belong at the end. */
static void pack_zero_h(const packing *p, const frnn_stage *stage, void *integers, void *to)
{
    const frnn_kernels *kernels = p->params->kernels;
    const frnn_dtype dtype = p->params->spec.dtype;
    const size_t width = kernels->width, count = stage->blocks * stage->sums * width;
    for (size_t i = 0; i < count; i++)
        put_number(to, i, dtype, -0.0);
    if (!stage->U.K)
        return;
    frnn_stage as_input = *stage;
    as_input.W = stage->U;
    as_input.bias = to;
    kernels->input(&as_input,
                   &(frnn_inputs){.n = 1, .x = &p->params->zeros, .sums = to, .integers = integers, .shares = 1});
    for (size_t i = 0; i < count; i++) {
        const size_t two = stage->sums - stage->gates, sum = i / width % stage->sums;
        if (sum < stage->gates - two || sum >= stage->gates)
            continue;
        put_number(to, i + two * width, dtype, number_at(to, i, dtype));
        put_number(to, i, dtype, -0.0);
    }
}

static frnn_format format_of(const frnn_spec *spec)
{
    switch (spec->precision) {
    case FRNN_FLOAT16: return FRNN_FORMAT_FLOAT16;
    case FRNN_INT8: return FRNN_FORMAT_INT8;
    case FRNN_INT8_FAST: return FRNN_FORMAT_INT8_FAST;
    default: return spec->dtype == FRNN_FLOAT32 ? FRNN_FORMAT_FLOAT32 : FRNN_FORMAT_FLOAT64;
    }
}

/* All of a stage but its arrays. */
static frnn_stage describe_stage(const frnn_params *params, frnn_stage_kind kind, size_t I, const frnn_weights *w)
{
    const frnn_spec *spec = &params->spec;
    const frnn_stage_row *row = frnn_stage_row_of(kind);
    const bool projects = kind == FRNN_STAGE_PROJECT;
    const size_t width = params->kernels->width, units = projects ? spec->proj_size : spec->hidden_size;
    const size_t blocks = (units + width - 1) / width, vector_row_bytes = blocks * width * params->number_bytes;
    const size_t K = projects ? spec->hidden_size : w->U ? params->out : 0;
    frnn_matrix W = frnn_matrix_of(format_of(spec), units, row->gates, projects ? 0 : I, width);
    frnn_matrix U = frnn_matrix_of(format_of(spec), units, row->gates, K, width);
    W.dots = U.dots = params->dots;
    return (frnn_stage){
        .kind = kind,
        .gates = row->gates,
        .sums = row->sums,
        .units = units,
        .blocks = blocks,
        .takes_x = !projects,
        .standard = frnn_cell_is_standard(spec, w),
        .spec = spec,
        .W = W,
        .U = U,
        .vector_row_bytes = vector_row_bytes,
        .sums_row_bytes = row->sums * vector_row_bytes,
    };
}

/* Takes a matrix's memory, and fills it once there is memory, from rows that begin with a gate of the cell's. */
static void make_matrix(frnn_matrix *matrix, frnn_arena *arena, const void *rows, const float *scales,
                        size_t first_gate)
{
    void *panels = frnn_arena_take(arena, 1, matrix->bytes);
    matrix->panels = panels;
    const size_t first = first_gate * matrix->units;
    if (panels && matrix->K)
        frnn_matrix_pack(matrix, panels, (const char *)rows + first * matrix->K * frnn_format_bytes(matrix->format),
                         scales ? scales + first : NULL);
}

/* Takes a stage's memory, and fills it once there is memory. */
static void make_stage(frnn_stage *stage, const packing *p, frnn_arena *arena)
{
    const frnn_weights *w = p->weights;
    const bool projects = stage->kind == FRNN_STAGE_PROJECT, peeps = w->p && stage->kind == FRNN_STAGE_LSTM;
    const size_t first_gate = frnn_stage_row_of(stage->kind)->first_gate;
    make_matrix(&stage->W, arena, w->W, w->W_scale, first_gate);
    make_matrix(&stage->U, arena, projects ? w->V : w->U, projects ? w->V_scale : w->U_scale, first_gate);
    void *integers = frnn_arena_take(arena, 1, frnn_integer_bytes(&stage->U));
    void *bias = frnn_arena_take(arena, 1, stage->sums_row_bytes);
    void *zero_h = frnn_arena_take(arena, 1, stage->sums_row_bytes);
    void *peephole = peeps ? frnn_arena_take(arena, 3, stage->vector_row_bytes) : NULL;
    if (!arena->base)
        return;
    pack_biases(p, stage, bias);
    pack_zero_h(p, stage, integers, zero_h);
    if (peephole)
        pack_peephole(p, stage, peephole);
    stage->bias = bias;
    stage->zero_h = zero_h;
    stage->peephole = peephole;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

enum { RENEWED_TOKENS = 256 /* of params of a step of training, whose call reads more tokens than a table has rows */ };

/* Bytes at most of the table of tokens. */
static size_t most_table_bytes(const frnn_params *params)
{
    return params->in_pages && params->spec.vocabulary > RENEWED_TOKENS ? 0 : FRNN_MOST_TABLE_BYTES;
}

/* Once to learn the size, once for real. */
static void make_layers(frnn_params *params, frnn_arena *arena, const frnn_weights *weights)
{
    const frnn_spec *spec = &params->spec;
    const size_t longest = params->out > spec->hidden_size ? params->out : spec->hidden_size;
    frnn_stage_kind kinds[FRNN_MOST_STAGES];
    const int stages = frnn_cell_stages(spec, kinds);
    void *zeros = frnn_arena_take(arena, longest, params->number_bytes);
    if (zeros)
        memset(zeros, 0, longest * params->number_bytes);
    params->zeros = zeros;
    const size_t before = arena->used;
    for (size_t i = 0; i < spec->num_layers * params->D; i++) {
        const packing p = {params, &weights[i]};
        frnn_layer *layer = &params->layers[i];
        layer->stages = stages;
        for (int s = 0; s < stages; s++) {
            const size_t I = i < params->D ? spec->input_size : params->D * params->out;
            layer->stage[s] = describe_stage(params, kinds[s], I, &weights[i]);
            make_stage(&layer->stage[s], &p, arena);
            params->x_integer_bytes = larger(params->x_integer_bytes, frnn_integer_bytes(&layer->stage[s].W));
            params->h_integer_bytes = larger(params->h_integer_bytes, frnn_integer_bytes(&layer->stage[s].U));
        }
    }
    frnn_embedding_make(params, arena, weights->E, most_table_bytes(params));
    params->bytes = arena->used - before;
}

static frnn_status make(const frnn_spec *spec, const frnn_weights *weights, const frnn_kernels *kernels, bool dots,
                        bool in_pages, frnn_params **result)
{
    const size_t D = (size_t)spec->forward + (size_t)spec->reverse;
    assert(D > 0);
    frnn_params *params = malloc(sizeof *params + spec->num_layers * D * sizeof *params->layers);
    if (!params)
        return FRNN_NO_MEMORY;
    frnn_stage_kind kinds[FRNN_MOST_STAGES];
    params->spec = *spec;
    params->kernels = kernels;
    params->dots = dots;
    params->x_integer_bytes = params->h_integer_bytes = 0;
    params->in_pages = in_pages;
    params->D = D;
    params->l2_bytes = frnn_l2_bytes();
    params->out = spec->proj_size ? spec->proj_size : spec->hidden_size;
    params->number_bytes = spec->dtype == FRNN_FLOAT32 ? sizeof(float) : sizeof(double);
    params->states = frnn_cell_states(spec->cell);
    params->carried = params->states - 1;
    for (int s = 0, stages = frnn_cell_stages(spec, kinds); s < stages; s++)
        params->carried += frnn_stage_row_of(kinds[s])->handed;

    frnn_arena arena = {0};
    make_layers(params, &arena, weights);
    if (!(in_pages ? frnn_arena_allocate_pages(&arena) : frnn_arena_allocate(&arena, NULL, 0))) {
        free(params);
        return FRNN_NO_MEMORY;
    }
    params->memory = arena.memory;
    const uint64_t mode = frnn_enter_float_mode(); /* biases are added, and U is multiplied */
    make_layers(params, &arena, weights);
    frnn_leave_float_mode(mode);
    *result = params;
    return FRNN_OK;
}

frnn_status frnn_params_new(const frnn_spec *spec, const frnn_weights *weights, const frnn_target *target,
                            frnn_params **params)
{
    assert(spec->hidden_size > 0 && spec->num_layers > 0 && frnn_target_usable(target));
    assert(spec->precision == FRNN_FULL || spec->dtype == FRNN_FLOAT32);
    return make(spec, weights, target->kernels[spec->dtype], target->dots, false, params);
}

frnn_status frnn_params_renew(const frnn_params *like, const frnn_weights *weights, frnn_params **params)
{
    return make(&like->spec, weights, like->kernels, like->dots, true, params);
}

void frnn_params_free(frnn_params *params)
{
    if (params && params->in_pages)
        frnn_pages_give(params->memory);
    else if (params)
        free(params->memory);
    free(params);
}

size_t frnn_params_bytes(const frnn_params *params) { return params->bytes; }

size_t frnn_params_table_bytes(const frnn_params *params) { return params->embedding.table_bytes; }

const frnn_spec *frnn_params_spec(const frnn_params *params) { return &params->spec; }
