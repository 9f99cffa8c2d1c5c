/* Weights into panels, in the layout of one target: docs/packing.md draws it. */
#include <math.h>
#include <string.h>

#include "arena.h"
#include "target.h"

/* Which rows of the weights a stage multiplies with. */
typedef struct part {
    frnn_stage_kind kind;
    size_t first_gate;
} part;

static int split_cell(const frnn_spec *spec, const frnn_weights *w, part parts[2])
{
    switch (spec->cell) {
    case FRNN_RNN: parts[0] = (part){FRNN_STAGE_RNN, 0}; return 1;
    case FRNN_LSTM:
        parts[0] = (part){FRNN_STAGE_LSTM, 0};
        parts[1] = (part){FRNN_STAGE_PROJECT, 0};
        return w->V ? 2 : 1;
    case FRNN_GRU:
        parts[0] = (part){spec->reset_after ? FRNN_STAGE_GRU : FRNN_STAGE_GRU_RESET, 0};
        parts[1] = (part){FRNN_STAGE_GRU_NEW, 2};
        return spec->reset_after ? 1 : 2;
    }
    return 0;
}

static bool is_usual(const frnn_spec *spec, const frnn_weights *w)
{
    return spec->activation.function == FRNN_TANH && spec->recurrent_activation.function == FRNN_SIGMOID &&
           spec->output_activation.function == FRNN_TANH && spec->clip == INFINITY && !spec->input_forget && !w->p;
}

/* Layout of one array of panels: [block][k][gate][lane], from rows (first_gate + gate) * H + unit of `from`. */
static void pack_panels(char *to, const char *from, const frnn_stage *stage, size_t K, size_t first_gate, size_t width,
                        size_t element)
{
    const size_t gates = (size_t)frnn_stage_gates(stage->kind);
    for (size_t block = 0; block < stage->blocks; block++)
        for (size_t k = 0; k < K; k++)
            for (size_t gate = 0; gate < gates; gate++)
                for (size_t lane = 0; lane < width; lane++, to += element) {
                    const size_t unit = block * width + lane, row = (first_gate + gate) * stage->units + unit;
                    if (unit < stage->units)
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

/* [block][sum][lane]. Both biases of a gate start one chain, so they are added here; in GRU with the reset gate after
 * the product, n's two are kept apart. */
static void pack_bias(void *to, const frnn_stage *stage, const frnn_weights *w, size_t first_gate, size_t width,
                      frnn_dtype dtype)
{
    const size_t gates = (size_t)frnn_stage_gates(stage->kind), sums = (size_t)frnn_stage_sums(stage->kind);
    for (size_t i = 0; i < stage->blocks * sums * width; i++) {
        const size_t unit = i / (sums * width) * width + i % width, sum = i / width % sums;
        const size_t gate = first_gate + (sum < gates ? sum : gates - 1), row = gate * stage->units + unit;
        const bool apart = sums > gates && gate == first_gate + gates - 1;
        double value = 0;
        if (unit < stage->units && stage->kind != FRNN_STAGE_PROJECT) {
            value += !apart || sum < gates ? number_at(w->b, row, dtype) : 0;
            value += !apart || sum == gates ? number_at(w->d, row, dtype) : 0;
        }
        put_number(to, i, dtype, value);
    }
}

static void pack_peephole(void *to, const frnn_stage *stage, const void *p, size_t width, frnn_dtype dtype)
{
    for (size_t i = 0; i < stage->blocks * 3 * width; i++) {
        const size_t unit = i / (3 * width) * width + i % width, gate = i / width % 3;
        put_number(to, i, dtype, unit < stage->units ? number_at(p, gate * stage->units + unit, dtype) : 0);
    }
}

/* Describes a stage and takes its memory; fills it in once there is memory. */
static void make_stage(frnn_stage *stage, frnn_arena *arena, const frnn_params *params, const frnn_weights *w,
                       part part, size_t I)
{
    const frnn_spec *spec = &params->spec;
    const bool projects = part.kind == FRNN_STAGE_PROJECT;
    const size_t width = params->kernels->width, element = params->element;

    *stage = (frnn_stage){
        .kind = part.kind,
        .I = projects ? 0 : I,
        .K = projects ? spec->H : params->out,
        .units = projects ? spec->P : spec->H,
        .activation = spec->activation,
        .recurrent_activation = spec->recurrent_activation,
        .output_activation = spec->output_activation,
        .clip = spec->clip,
        .input_forget = spec->input_forget,
        .usual = is_usual(spec, w),
    };
    stage->blocks = (stage->units + width - 1) / width;

    const size_t gates = (size_t)frnn_stage_gates(part.kind), sums = (size_t)frnn_stage_sums(part.kind);
    const size_t lanes = stage->blocks * width * element;
    char *W = frnn_arena_take(arena, stage->I, gates * lanes), *U = frnn_arena_take(arena, stage->K, gates * lanes);
    void *bias = frnn_arena_take(arena, sums, lanes);
    void *peephole = w->p && part.kind == FRNN_STAGE_LSTM ? frnn_arena_take(arena, 3, lanes) : NULL;
    if (!arena->base)
        return;
    pack_panels(W, w->W, stage, stage->I, part.first_gate, width, element);
    pack_panels(U, projects ? w->V : w->U, stage, stage->K, part.first_gate, width, element);
    pack_bias(bias, stage, w, part.first_gate, width, spec->dtype);
    if (peephole)
        pack_peephole(peephole, stage, w->p, width, spec->dtype);
    stage->W = W;
    stage->U = U;
    stage->bias = bias;
    stage->peephole = peephole;
}

static void make_layers(frnn_params *params, frnn_arena *arena, const frnn_weights *weights)
{
    for (size_t i = 0; i < params->spec.L * params->D; i++) {
        const size_t I = i < params->D ? params->spec.I : params->D * params->out;
        part parts[2];
        params->layers[i].stages = split_cell(&params->spec, &weights[i], parts);
        for (int s = 0; s < params->layers[i].stages; s++)
            make_stage(&params->layers[i].stage[s], arena, params, &weights[i], parts[s], I);
    }
}

frnn_status frnn_params_new(const frnn_spec *spec, const frnn_weights *weights, const frnn_target *target,
                            frnn_params **result)
{
    const size_t D = (size_t)spec->forward + (size_t)spec->reverse;
    assert(D > 0 && spec->H > 0 && spec->L > 0 && frnn_target_usable(target));
    frnn_params *params = malloc(sizeof *params + spec->L * D * sizeof *params->layers);
    if (!params)
        return FRNN_NO_MEMORY;
    params->spec = *spec;
    params->target = target;
    params->kernels = target->kernels[spec->dtype];
    params->D = D;
    params->out = spec->P ? spec->P : spec->H;
    params->element = spec->dtype == FRNN_FLOAT32 ? sizeof(float) : sizeof(double);

    frnn_arena arena = {0};
    make_layers(params, &arena, weights);
    params->bytes = arena.used;
    if (!frnn_arena_allocate(&arena)) {
        free(params);
        return FRNN_NO_MEMORY;
    }
    params->memory = arena.memory;
    make_layers(params, &arena, weights);
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
