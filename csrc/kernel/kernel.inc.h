/* The one kernel text. A target's file includes its simd header, then this, with TARGET and FRNN_BITS defined; it
 * makes one object with one name, frnn_<target>_<bits>. */

#include "activations.inc.h"

#include "cells.inc.h"
#include "matmul.inc.h"

/* Blocks in one tile: a power of two, as many as there are and as a tile takes. */
static size_t blocks_across(size_t sums, size_t rows, size_t left)
{
    size_t blocks = (rows == 1 ? SUMS_ACROSS_OF_ONE_ROW : SUMS_ACROSS) / sums;
    while (blocks > left || blocks & (blocks - 1))
        blocks--;
    return blocks;
}

static void start_from_bias(const frnn_stage *stage, size_t block, size_t rows, size_t vectors, real *sums, size_t step)
{
    const real *bias = (const real *)stage->bias + block * (size_t)frnn_stage_sums(stage->kind) * WIDTH;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < vectors; i++)
            v_store(sums + r * step + i * WIDTH, v_load(bias + i * WIDTH));
}

/* Goes over all tiles of a step: blocks outside, so that a block's panels stay in cache while its rows pass, and rows
 * in tiles of as equal a height as can be: eight rows are four and four, not six and two. With `input` the x part is
 * summed and kept; without, the step is ended from what was kept or from the start. */
static void sweep(const frnn_stage *stage, const frnn_rows *rows, bool input)
{
    const products multiply = products_of(stage->kind);
    const size_t sums = (size_t)frnn_stage_sums(stage->kind), panel = (size_t)frnn_stage_gates(stage->kind) * WIDTH;
    const bool starts = input || !rows->sums;
    real own[MAX_SUMS * WIDTH];
    for (size_t block = 0, across; block < stage->blocks; block += across) {
        across = blocks_across(sums, rows->n, stage->blocks - block);
        size_t left = (rows->n + MAX_ROWS - 1) / MAX_ROWS;
        for (size_t row = 0, height; left > 0; row += height, left--) {
            height = (rows->n - row + left - 1) / left;
            operands o = {.sums = own, .sums_step = across * sums * WIDTH};
            if (rows->sums) {
                o.sums_step = stage->blocks * sums * WIDTH;
                o.sums = (real *)rows->sums + row * o.sums_step + block * sums * WIDTH;
            }
            if (starts) {
                start_from_bias(stage, block, height, across * sums, o.sums, o.sums_step);
                o.panels = (const real *)stage->W + block * stage->I * panel;
                o.in = rows->x + row;
                o.K = stage->I;
                multiply.x(&o, height, across);
            }
            if (input)
                continue;
            o.panels = (const real *)stage->U + block * stage->K * panel;
            o.in = rows->h + row;
            o.K = stage->K;
            multiply.h(&o, height, across);
            finish(stage, rows, row, block, height, across, o.sums, o.sums_step);
        }
    }
}

static void input(const frnn_stage *stage, const frnn_rows *rows) { sweep(stage, rows, true); }

static void step(const frnn_stage *stage, const frnn_rows *rows) { sweep(stage, rows, false); }

#define JOIN_(a, b, c, d) a##b##c##d
#define JOIN(a, b, c, d) JOIN_(a, b, c, d)
const frnn_kernels JOIN(frnn_, TARGET, _, FRNN_BITS) = {WIDTH, MAX_ROWS, input, step};
