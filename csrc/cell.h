/* What the library asks of a cell: the rows of cells.def, as constants and functions. */
#ifndef FRNN_CELL_H
#define FRNN_CELL_H

#include "fastrnn.h"

typedef enum frnn_stage_kind {
#define FRNN_STAGE(KIND, ...) FRNN_STAGE_##KIND,
#include "cells.def"
    FRNN_STAGE_KINDS,
    FRNN_NO_STAGE = FRNN_STAGE_KINDS
} frnn_stage_kind;

/* Numbers of a row of FRNN_STAGE. */
typedef struct frnn_stage_row {
    size_t first_gate, gates, sums, handed;
} frnn_stage_row;

enum { FRNN_MOST_STAGES = 2 }; /* of a step */

/* The stages of a layer's step, in order; answers how many. */
int frnn_cell_stages(const frnn_spec *spec, frnn_stage_kind kinds[FRNN_MOST_STAGES]);

const frnn_stage_row *frnn_stage_row_of(frnn_stage_kind kind);

/* Whether a layer has tanh and sigmoid in their places and no option: the kernels have a text of its own for it. */
bool frnn_cell_is_standard(const frnn_spec *spec, const frnn_weights *weights);

#endif
