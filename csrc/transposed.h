/* Weights as the way back multiplies them: U, W and a projection's V, each with rows and columns exchanged. */
#ifndef FRNN_TRANSPOSED_H
#define FRNN_TRANSPOSED_H

#include "kernel.h"

typedef struct frnn_back_layer {
    frnn_layer steps;      /* the stages of a step back */
    frnn_stage to_x, to_h; /* what makes gradients of x, and of h before the first step, of rows of gradients */
    frnn_gradient_row row;
} frnn_back_layer;

struct frnn_transposed {
    size_t bytes;
    void *memory;
    frnn_back_layer layers[]; /* L * D */
};

#endif
