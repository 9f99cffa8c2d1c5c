/* The one kernel text. A target's file includes its simd header, then this, with TARGET and FRNN_BITS defined; it
 * makes one object with one name, frnn_<target>_<bits>. */

#include "tile.inc.h"

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

static void start_from_bias(const frnn_stage *stage, const tile *t)
{
    const size_t sums = frnn_stage_sums(stage->kind);
    const real *bias = (const real *)stage->bias + t->block * sums * WIDTH;
    for (size_t r = 0; r < t->rows; r++)
        for (size_t i = 0; i < t->blocks * sums; i++)
            v_store(t->sums + r * t->stride + i * WIDTH, v_load(bias + i * WIDTH));
}

/* Goes over all tiles of a step: blocks outside, so that a block's panels stay in cache while its rows pass, and rows
 * in tiles of as equal a height as can be: eight rows are four and four, not six and two. `ahead` sums the x part and
 * leaves it in rows->sums; without it the step is ended, from there or from the start. */
static void sweep(const frnn_stage *stage, const frnn_rows *rows, bool ahead)
{
    const operands x = {stage->W, rows->x, stage->I}, h = {stage->U, rows->h, stage->K};
    const size_t sums = frnn_stage_sums(stage->kind);
    real own[MAX_SUMS * WIDTH];
    tile t;
    for (t.block = 0; t.block < stage->blocks; t.block += t.blocks) {
        t.blocks = blocks_across(sums, rows->n, stage->blocks - t.block);
        size_t left = (rows->n + MAX_ROWS - 1) / MAX_ROWS;
        for (t.row = 0; left > 0; t.row += t.rows, left--) {
            t.rows = (rows->n - t.row + left - 1) / left;
            t.stride = (rows->sums ? stage->blocks : t.blocks) * sums * WIDTH;
            t.sums = rows->sums ? (real *)rows->sums + t.row * t.stride + t.block * sums * WIDTH : own;
            if (ahead || !rows->sums) {
                start_from_bias(stage, &t);
                products[stage->kind].x(&x, &t);
            }
            if (!ahead) {
                products[stage->kind].h(&h, &t);
                finish(stage, rows, &t);
            }
        }
    }
}

static void input(const frnn_stage *stage, const frnn_rows *rows) { sweep(stage, rows, true); }

static void step(const frnn_stage *stage, const frnn_rows *rows) { sweep(stage, rows, false); }

#define JOIN_(a, b, c, d) a##b##c##d
#define JOIN(a, b, c, d) JOIN_(a, b, c, d)
const frnn_kernels JOIN(frnn_, TARGET, _, FRNN_BITS) = {WIDTH, MAX_ROWS, input, step};
