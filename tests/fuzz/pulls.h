/* One call there and back: on threads, under conditions, interrupted. Gradients have the bits of those that one thread
 * makes of another target's tape. */
#ifndef PULLS_H
#define PULLS_H

#include "gradients.h"
#include "ways.h"

static void check_status(frnn_status status, bool may_be_interrupted)
{
    if (status != FRNN_OK && !(status == FRNN_NO_MEMORY && atomic_load(&failures)) &&
        !(status == FRNN_INTERRUPTED && may_be_interrupted))
        fail("the answer of a pullback is %d", status);
}

static bool pull_under(const problem *p, const conditions *c, const frnn_tape *tape, const frnn_transposed *transposed,
                       const cotangents *from, uint64_t *hash)
{
    gradients g = new_gradients(&p->l, &p->b);
    frnn_pull to_pull = make_pull(&p->l, &p->b, from, &g, rarely(6) ? 2 + pick(2) : 1);
    frnn_call asked = {0};
    questions q = pick_questions(p, &asked);
    to_pull.interrupted = asked.interrupted, to_pull.context = &q;
    begin_watching(c);
    const frnn_status status = frnn_pull_back(tape, transposed, &to_pull);
    end_watching();
    check_status(status, to_pull.interrupted);
    *hash = digest_gradients(&p->l, &p->b, &g);
    free_result(&q.own), free_gradients(&p->l, &g);
    return status == FRNN_OK;
}

/* What the plain way answers, for another target. */
static uint64_t pull_plainly(const problem *p, const frnn_target *target, const cotangents *from)
{
    layer other = p->l;
    uint64_t results;
    other.params = make_params(&other, target);
    frnn_transposed *transposed = transpose(&other);
    frnn_tape *tape = record(&other, &p->b, 1, 0, &results);
    if (results != digest_result(&p->l, &p->whole, p->b.T, p->b.B))
        fail("a tape changes results");
    const uint64_t hash = pull(&other, &p->b, tape, transposed, from, 1);
    frnn_tape_free(tape), frnn_transposed_free(transposed), frnn_params_free(other.params);
    return hash;
}

static void pull_some_way(const problem *p, const frnn_target *target)
{
    const conditions c = pick_conditions();
    result r = new_result(&p->l, p->b.T, p->b.B);
    frnn_call call = make_call(&p->l, &p->b, &r);
    call.threads = rarely(6) ? 2 : 1;
    cotangents from = random_cotangents(&p->l, &p->b);
    frnn_transposed *transposed = NULL;
    frnn_tape *tape = NULL;
    uint64_t hash;
    const size_t segment = pick(2) ? 0 : 1 + pick(p->b.T + 1);
    begin_watching(&c);
    frnn_status status = frnn_run_taped(p->l.params, &call, segment, &tape);
    if (status == FRNN_OK)
        status = frnn_transposed_new(p->l.params, p->l.weights, &transposed);
    end_watching();
    check_status(status, false);
    if (status == FRNN_OK && pull_under(p, &c, tape, transposed, &from, &hash) &&
        hash != pull_plainly(p, target, &from))
        fail("gradients differ");
    frnn_tape_free(tape), frnn_transposed_free(transposed);
    free_result(&r), free_cotangents(&from);
}

#endif
