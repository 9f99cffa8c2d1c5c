#include "cell.h"

#include <assert.h>
#include <math.h>

typedef struct cell_row {
    const char *name;
    size_t gates, states, activations;
} cell_row;

static const cell_row cells[] = {
#define FRNN_CELL(NAME, name, gates, states, activations, ...) {#name, gates, states, activations},
#include "cells.def"
};

static const frnn_stage_row stages[] = {
#define FRNN_STAGE(KIND, first_gate, gates, sums, handed) {first_gate, gates, sums, handed},
#include "cells.def"
};

#define FRNN_CELL(NAME, name, gates, states, ...)                                                                      \
    _Static_assert((states) >= 1 && (states) <= FRNN_MOST_STATES,                                                      \
                   #NAME ": a cell has h, and at most FRNN_MOST_STATES states (fastrnn.h)");
#define FRNN_STAGE(KIND, first_gate, gates, sums, handed)                                                              \
    _Static_assert((sums) >= (gates) && (sums) <= 2 * (gates),                                                         \
                   #KIND ": a gate of a stage has one sum of W x and U h, or one of each");
#include "cells.def"

const char *frnn_cell_name(frnn_cell cell) { return cells[cell].name; }

size_t frnn_cell_gates(frnn_cell cell) { return cells[cell].gates; }

size_t frnn_cell_states(frnn_cell cell) { return cells[cell].states; }

const frnn_stage_row *frnn_stage_row_of(frnn_stage_kind kind) { return &stages[kind]; }

int frnn_cell_stages(const frnn_spec *spec, frnn_stage_kind kinds[FRNN_MOST_STAGES])
{
    switch (spec->cell) {
#define FRNN_CELL(NAME, name, gates, states, activations, first, second)                                               \
    case FRNN_##NAME:                                                                                                  \
        kinds[0] = first;                                                                                              \
        kinds[1] = second;                                                                                             \
        break;
#include "cells.def"
    case FRNN_CELLS: assert(0 && "no cell");
    }
    return kinds[1] == FRNN_NO_STAGE ? 1 : 2;
}

bool frnn_cell_is_standard(const frnn_spec *spec, const frnn_weights *weights)
{
    const size_t used = cells[spec->cell].activations;
    return spec->activation.function == FRNN_TANH &&
           (used < 2 || spec->recurrent_activation.function == FRNN_SIGMOID) &&
           (used < 3 || (spec->output_activation.function == FRNN_TANH && !spec->input_forget)) && !weights->p &&
           spec->clip == INFINITY;
}
