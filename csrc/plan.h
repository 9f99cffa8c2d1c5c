/* How a call is run. Only time depends on it: results have the same bits under every plan. */
#ifndef FRNN_PLAN_H
#define FRNN_PLAN_H

#include "target.h"

typedef struct frnn_plan {
    size_t block; /* steps that all layers take before any takes the next */
    bool hoist;   /* the x part of a block is one product of block * B rows; else x and h are multiplied step by step */
    size_t parts; /* of the batch, which run side by side, as the directions of each do */
    size_t threads;
} frnn_plan;

frnn_plan frnn_make_plan(const frnn_params *params, size_t T, size_t B, size_t threads);

#endif
