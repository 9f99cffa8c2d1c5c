/* Weights into panels, in the layout of one target: docs/packing.md draws it. */
#include <math.h>

#include "arena.h"
#include "kernel.h"

/* A stage, and the first of the gates that it takes from a cell's weights. */
typedef struct stage_plan {
    frnn_stage_kind kind;
    size_t first_gate;
} stage_plan;

/* The stages of a cell, in order; answers how many. */
static int plan_stages(const frnn_spec *spec, stage_plan plans[FRNN_MOST_STAGES])
{
    switch (spec->cell) {
    case FRNN_RNN: plans[0] = (stage_plan){FRNN_STAGE_RNN, 0}; return 1;
    case FRNN_LSTM:
        plans[0] = (stage_plan){FRNN_STAGE_LSTM, 0};
        plans[1] = (stage_plan){FRNN_STAGE_PROJECT, 0};
        return spec->proj_size ? 2 : 1;
    case FRNN_GRU:
        plans[0] = (stage_plan){spec->reset_after ? FRNN_STAGE_GRU : FRNN_STAGE_GRU_RESET, 0};
        plans[1] = (stage_plan){FRNN_STAGE_GRU_NEW, 2};
        return spec->reset_after ? 1 : 2;
    }
    return 0;
}

static bool is_standard(const frnn_spec *spec, const frnn_weights *w)
{
    const bool gates = spec->cell == FRNN_RNN || spec->recurrent_activation.function == FRNN_SIGMOID;
    const bool lstm =
        spec->cell != FRNN_LSTM || (spec->output_activation.function == FRNN_TANH && !spec->input_forget && !w->p);
    return spec->activation.function == FRNN_TANH && gates && lstm && spec->clip == INFINITY;
}

/* One array of weights of a stage, on its way into panels. */
typedef struct packing {
    const frnn_params *params;
    const frnn_stage *stage;
    size_t first_gate;
} packing;

/* [block][k][gate][lane], from rows (first_gate + gate) * units + unit of `from`. */
static void pack_panels(const packing *p, char *to, const char *from, size_t K)
{
    const size_t gates = frnn_stage_gates(p->stage->kind), units = p->stage->units;
    const size_t width = p->params->kernels->width, element = p->params->element;
    for (size_t block = 0; block < p->stage->blocks; block++)
        for (size_t k = 0; k < K; k++)
            for (size_t gate = 0; gate < gates; gate++)
                for (size_t lane = 0; lane < width; lane++, to += element) {
                    const size_t unit = block * width + lane, row = (p->first_gate + gate) * units + unit;
                    if (unit < units)
                        memcpy(to, from + (row * K + k) * element, element);
                    else
                        memset(to, 0, element);
                }
}

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

/* The row of weights, of one sum of a unit: the last gate has the sums from gates - 1 on. */
static size_t row_of_sum(const packing *p, size_t unit, size_t sum)
{
    const size_t gates = frnn_stage_gates(p->stage->kind);
    return (p->first_gate + (sum < gates ? sum : gates - 1)) * p->stage->units + unit;
}

/* Both biases of a gate start one chain, so they are added here; in GRU with the reset gate after the product, n's two
 * are kept apart. */
static double bias_of(const packing *p, const frnn_weights *w, size_t unit, size_t sum)
{
    const size_t gates = frnn_stage_gates(p->stage->kind), row = row_of_sum(p, unit, sum);
    const bool apart = frnn_stage_sums(p->stage->kind) > gates && sum >= gates - 1;
    double value = 0;
    if (unit >= p->stage->units || p->stage->kind == FRNN_STAGE_PROJECT)
        return value;
    value += !apart || sum < gates ? number_at(w->b, row, p->params->spec.dtype) : 0;
    value += !apart || sum == gates ? number_at(w->d, row, p->params->spec.dtype) : 0;
    return value;
}

/* U h for h = +0. A sum s plus this is what s would be after the chains of U h: a product with +0 is 0 with the weight's
 * sign, or NaN where the weight is not finite; -0 changes no sum; the first chain goes on from s, and each later one
 * starts from +0. */
static double zero_h_of(const packing *p, const frnn_weights *w, size_t unit, size_t sum)
{
    const frnn_stage *stage = p->stage;
    const size_t gates = frnn_stage_gates(stage->kind), row = row_of_sum(p, unit, sum);
    const bool from_x_alone = frnn_stage_sums(stage->kind) > gates && sum == gates - 1;
    const void *from = stage->kind == FRNN_STAGE_PROJECT ? w->V : w->U;
    double value = -0.0;
    if (unit >= stage->units || from_x_alone)
        return value;
    for (size_t k = 0; k < stage->K; k++)
        value += number_at(from, row * stage->K + k, p->params->spec.dtype) * 0.0;
    return stage->K > FRNN_CHAIN ? value + 0.0 : value;
}

/* [block][sum][lane] */
static void pack_sums(const packing *p, void *to, const frnn_weights *w,
                      double (*value_of)(const packing *p, const frnn_weights *w, size_t unit, size_t sum))
{
    const size_t sums = frnn_stage_sums(p->stage->kind), width = p->params->kernels->width;
    for (size_t i = 0; i < p->stage->blocks * sums * width; i++) {
        const size_t unit = i / (sums * width) * width + i % width, sum = i / width % sums;
        put_number(to, i, p->params->spec.dtype, value_of(p, w, unit, sum));
    }
}

static void pack_peephole(const packing *p, void *to, const void *from)
{
    const frnn_dtype dtype = p->params->spec.dtype;
    const size_t width = p->params->kernels->width, units = p->stage->units;
    for (size_t i = 0; i < p->stage->blocks * 3 * width; i++) {
        const size_t unit = i / (3 * width) * width + i % width, gate = i / width % 3;
        put_number(to, i, dtype, unit < units ? number_at(from, gate * units + unit, dtype) : 0);
    }
}

/* Describes a stage of a layer and takes its memory; fills it once there is memory. */
static void make_stage(frnn_stage *stage, const frnn_params *params, stage_plan plan, const frnn_weights *w,
                       frnn_arena *arena)
{
    const frnn_spec *spec = &params->spec;
    const bool projects = plan.kind == FRNN_STAGE_PROJECT;
    stage->kind = plan.kind;
    stage->spec = spec;
    stage->I = projects ? 0 : stage->I;
    stage->K = projects ? spec->hidden_size : params->out;
    stage->units = projects ? spec->proj_size : spec->hidden_size;
    stage->blocks = (stage->units + params->kernels->width - 1) / params->kernels->width;
    stage->standard = is_standard(spec, w);

    const size_t gates = frnn_stage_gates(plan.kind), lanes = frnn_unit_bytes(params, stage);
    char *W = frnn_arena_take(arena, stage->I, gates * lanes), *U = frnn_arena_take(arena, stage->K, gates * lanes);
    void *bias = frnn_arena_take(arena, frnn_stage_sums(plan.kind), lanes);
    void *zero_h = frnn_arena_take(arena, frnn_stage_sums(plan.kind), lanes);
    void *peephole = w->p && plan.kind == FRNN_STAGE_LSTM ? frnn_arena_take(arena, 3, lanes) : NULL;
    if (!arena->base)
        return;
    const packing p = {params, stage, plan.first_gate};
    pack_panels(&p, W, w->W, stage->I);
    pack_panels(&p, U, projects ? w->V : w->U, stage->K);
    pack_sums(&p, bias, w, bias_of);
    pack_sums(&p, zero_h, w, zero_h_of);
    if (peephole)
        pack_peephole(&p, peephole, w->p);
    stage->W = W;
    stage->U = U;
    stage->bias = bias;
    stage->zero_h = zero_h;
    stage->peephole = peephole;
}

static void make_layers(frnn_params *params, frnn_arena *arena, const frnn_weights *weights)
{
    stage_plan plans[FRNN_MOST_STAGES];
    const int stages = plan_stages(&params->spec, plans);
    for (size_t i = 0; i < params->spec.num_layers * params->D; i++) {
        params->layers[i].stages = stages;
        for (int s = 0; s < stages; s++) {
            params->layers[i].stage[s] =
                (frnn_stage){.I = i < params->D ? params->spec.input_size : params->D * params->out};
            make_stage(&params->layers[i].stage[s], params, plans[s], &weights[i], arena);
        }
    }
}

frnn_status frnn_params_new(const frnn_spec *spec, const frnn_weights *weights, const frnn_target *target,
                            frnn_params **result)
{
    const size_t D = (size_t)spec->forward + (size_t)spec->reverse;
    assert(D > 0 && spec->hidden_size > 0 && spec->num_layers > 0 && frnn_target_usable(target));
    frnn_params *params = malloc(sizeof *params + spec->num_layers * D * sizeof *params->layers);
    if (!params)
        return FRNN_NO_MEMORY;
    params->spec = *spec;
    params->kernels = target->kernels[spec->dtype];
    params->D = D;
    params->l2_bytes = frnn_l2_bytes();
    params->out = spec->proj_size ? spec->proj_size : spec->hidden_size;
    params->element = spec->dtype == FRNN_FLOAT32 ? sizeof(float) : sizeof(double);

    frnn_arena arena = {0};
    make_layers(params, &arena, weights);
    params->bytes = arena.used;
    if (!frnn_arena_allocate(&arena, NULL, 0)) {
        free(params);
        return FRNN_NO_MEMORY;
    }
    params->memory = arena.memory;
    const uint64_t mode = frnn_enter_float_mode(); /* biases are added */
    make_layers(params, &arena, weights);
    frnn_leave_float_mode(mode);
    *result = params;
    return FRNN_OK;
}

void frnn_params_free(frnn_params *params)
{
    if (params)
        free(params->memory);
    free(params);
}

size_t frnn_params_bytes(const frnn_params *params) { return params->bytes; }
