/* Time cut anywhere, the states carried over; in the order that the stack runs in. */
#ifndef CUTS_H
#define CUTS_H

#include "ways.h"

/* Steps from `from` on, n of them, from the states of one of two results to the other. */
static frnn_status run_cut(const problem *p, size_t from, size_t n, const result *before, const result *after)
{
    const batch *b = &p->b;
    frnn_call call = make_call(&p->l, b, after);
    size_t *lengths = allocate(b->B, sizeof *lengths);
    for (size_t r = 0; r < b->B; r++) {
        const size_t left = length_of(b, r) > from ? length_of(b, r) - from : 0;
        lengths[r] = left < n ? left : n;
    }
    call.T = n;
    call.lengths = b->ragged || chance(4) ? lengths : NULL;
    call.x.data = (const char *)b->x + (ptrdiff_t)from * call.x.outer;
    call.resets = b->resets ? b->resets + (ptrdiff_t)from * call.reset_time : NULL;
    call.y = (char *)after->y + (ptrdiff_t)from * call.y_time;
    call.threads = rarely(12) ? 2 : 1;
    if (before)
        call.initial[0].data = before->h, call.initial[1].data = before->c;
    const frnn_status status = frnn_run(p->l.params, &call);
    free(lengths);
    return status;
}

static void run_in_cuts(const problem *p)
{
    const layer *l = &p->l;
    const size_t T = p->b.T, B = p->b.B;
    result states[2] = {new_result(l, 0, B), new_result(l, 0, B)};
    void *y = allocate_unset(T * B * y_width(l), l->element);
    size_t done = 0, parity = 0;
    do {
        const size_t n = T ? 1 + pick(T - done) : 0, from = l->spec.forward ? done : T - done - n;
        const result after = {y, states[parity].h, states[parity].c};
        if (run_cut(p, from, n, done ? &states[!parity] : NULL, &after) != FRNN_OK)
            fail("a call of a part of time fails");
        parity = !parity;
        done += n;
    } while (done < T);
    check_same(p, "y of parts of time", y, p->whole.y, T * B * y_width(l));
    check_same(p, "h after parts of time", states[!parity].h, p->whole.h, h_count(l, B));
    check_same(p, "c after parts of time", states[!parity].c, p->whole.c, has_c(l) ? c_count(l, B) : 0);
    free(y), free_result(&states[0]), free_result(&states[1]);
}

#endif
