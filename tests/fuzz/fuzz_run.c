/* Coverage-guided fuzzing of the C interface: `run.sh SECONDS run` builds and runs it, `fuzz_run FILE` shows a finding
 * again.
 *
 * Bytes become a layer stack, a batch (decode.h) and two targets. One target runs the batch plainly. The other one then
 * has one or two of these to do, by choice of the bytes:
 *   - the same plain call: the same bits, within the bounds of a float64 reference (../c/reference.h);
 *   - a call in some way (ways.h), time cut anywhere (cuts.h), a stream or a pool (streams.h): the same bits;
 *   - tokens that name rows of x (tokens.h), in a call and in a pool: the same bits;
 *   - a call there and back (pulls.h): the same bits of gradients;
 *   - what is said of calls of any size, and sizes that can't be had (sizes.h).
 * Memory fails, clocks jump and callers have modes of their own (hooks.h). Assertions and sanitizers see the rest; the
 * library's own scratch starts as NaN. */
#include "cuts.h"
#include "decode.h"
#include "hooks.h"
#include "pulls.h"
#include "reference.h"
#include "sizes.h"
#include "streams.h"
#include "tokens.h"

enum { MOST_TARGETS = 8 };

static const frnn_target *targets[MOST_TARGETS];
static size_t target_count;

static void copy_weights(layer *l, size_t i, size_t which)
{
    const void **const array = weight(l, i, which);
    if (*array)
        *array = copy_of(*array, weight_count(l, i, which) * weight_bytes(l, which));
    const float **const of_rows = is_matrix(which) ? scales(l, i, which) : NULL;
    if (of_rows && *of_rows)
        *of_rows = copy_of(*of_rows, matrix_rows(l, which) * sizeof(float));
}

/* Checks that a copy is as it was, and writes over it. */
static void spend(const void *original, const void *copy, size_t bytes)
{
    if (original && memcmp(copy, original, bytes) != 0)
        fail("weights were written");
    if (copy)
        memset((void *)(uintptr_t)copy, 0xff, bytes);
}

/* They are copied: what is written to the caller's arrays afterwards is not seen. */
static frnn_params *make_params_of_copies(layer l, const frnn_target *target, const conditions *c)
{
    layer original = l;
    for (size_t i = 0; i < stacked(&l); i++)
        for (size_t which = 0; which < WEIGHTS; which++)
            copy_weights(&l, i, which);
    l.params = NULL;
    begin_watching(c);
    const frnn_status status = frnn_params_new(&l.spec, l.weights, target, &l.params);
    end_watching();
    if (status != (atomic_load(&failures) ? FRNN_NO_MEMORY : FRNN_OK))
        fail("frnn_params_new answers %d, %zu allocations having failed", status, atomic_load(&failures));
    frnn_params *const made = l.params;
    for (size_t i = 0; i < stacked(&l); i++)
        for (size_t which = 0; which < WEIGHTS; which++) {
            spend(*weight(&original, i, which), *weight(&l, i, which),
                  weight_count(&l, i, which) * weight_bytes(&l, which));
            if (is_matrix(which))
                spend(*scales(&original, i, which), *scales(&l, i, which), matrix_rows(&l, which) * sizeof(float));
        }
    l.params = NULL;
    free_layer(&l);
    return made;
}

static void run_plainly(const problem *p, const result *to)
{
    const frnn_call call = make_call(&p->l, &p->b, to);
    if (frnn_run(p->l.params, &call) != FRNN_OK)
        fail("a plain call fails");
}

static void compare_targets(const problem *p)
{
    const layer *l = &p->l;
    result r = new_result(l, p->b.T, p->b.B);
    run_plainly(p, &r);
    check_same(p, "y of two targets", r.y, p->whole.y, p->b.T * p->b.B * y_width(l));
    check_same(p, "h of two targets", r.h, p->whole.h, h_count(l, p->b.B));
    check_same(p, "c of two targets", r.c, p->whole.c, has_c(l) ? c_count(l, p->b.B) : 0);
    free_result(&r);
    check_reference(l, &p->b, &p->whole);
}

static void act(const problem *p, const frnn_target *target)
{
    const bool one_way = p->l.D == 1;
    switch (pick(10)) {
    case 1:
    case 2:
    case 3: run_some_way(p); break;
    case 4: one_way ? run_in_cuts(p) : run_some_way(p); break;
    case 5:
        one_way && p->l.spec.forward && p->b.B && !p->b.ragged && !p->b.resets ? run_stream(p) : run_some_way(p);
        break;
    case 6: check_text(p->l.params, p->b.T, p->b.B), check_large_calls(p->l.params); break;
    case 7: chance(3) ? check_large_params(target) : read_tokens(p, target); break;
    case 8:
    case 9: p->l.spec.precision == FRNN_FULL ? pull_some_way(p, target) : run_some_way(p); break;
    default: compare_targets(p);
    }
}

int LLVMFuzzerInitialize(const int *count, char ***arguments);
int LLVMFuzzerInitialize(const int *count, char ***arguments)
{
    (void)count, (void)arguments;
    for (size_t t = 0; t < frnn_target_count(); t++)
        if (frnn_target_usable(frnn_target_at(t)))
            targets[target_count++] = frnn_target_at(t);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    start_rarity(data, size);
    choices.given = true, choices.at = data, choices.left = size;
    const frnn_target *one = targets[pick(target_count)], *other = targets[pick(target_count)];
    problem p = pick_problem();
    set_tested(frnn_target_name(other), &p.l, &p.b);
    const conditions c = pick_conditions();
    p.l.params = make_params_of_copies(p.l, one, &c);
    if (!p.l.params)
        p.l.params = make_params(&p.l, one);
    p.whole = new_result(&p.l, p.b.T, p.b.B);
    run_plainly(&p, &p.whole);
    if (other != one) {
        frnn_params_free(p.l.params);
        p.l.params = make_params(&p.l, other);
    }
    act(&p, other);
    if (chance(4))
        act(&p, other);
    free_result(&p.whole), free_batch(&p.b), free_layer(&p.l);
    return 0;
}
