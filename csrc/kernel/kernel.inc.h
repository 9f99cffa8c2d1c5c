/* The one kernel text. A target's file includes its simd header, then this, with TARGET and FRNN_BITS defined; it
 * makes one object with one name, frnn_<target>_<bits>. */

#include "activations.inc.h"

#include "cells.inc.h"

#include "matmul.inc.h"

static void input(const frnn_stage *stage, const frnn_rows *rows)
{
    product(INPUT, stage, rows);
}

static void step(const frnn_stage *stage, const frnn_rows *rows)
{
    product(STEP, stage, rows);
}

#define JOIN_(a, b, c, d) a##b##c##d
#define JOIN(a, b, c, d) JOIN_(a, b, c, d)
const frnn_kernels JOIN(frnn_, TARGET, _, FRNN_BITS) = {WIDTH, MAX_ROWS, input, step};
