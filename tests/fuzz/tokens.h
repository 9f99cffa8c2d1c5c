/* Tokens: x of a problem as an embedding, and numbers of its rows in place of x. They give the bits of the plain call. */
#ifndef TOKENS_H
#define TOKENS_H

#include "pooled.h"
#include "ways.h"

/* Whether a step of a row is read. */
static bool is_read(const batch *b, size_t number) { return number / b->B < length_of(b, number % b->B); }

static void write_token(void *tokens, frnn_tokens kind, size_t at, int64_t token)
{
    if (kind == FRNN_TOKENS_32)
        ((int32_t *)tokens)[at] = (int32_t)token;
    else
        ((int64_t *)tokens)[at] = token;
}

static void call_with_tokens(const problem *p, const layer *l)
{
    const size_t rows = p->b.T * p->b.B;
    const frnn_tokens kind = chance(2) ? FRNN_TOKENS_32 : FRNN_TOKENS_64;
    const size_t bytes = kind == FRNN_TOKENS_32 ? sizeof(int32_t) : sizeof(int64_t);
    void *tokens = allocate(rows, bytes);
    for (size_t i = 0; i < rows; i++)
        write_token(tokens, kind, i, (int64_t)i);
    result r = new_result(l, p->b.T, p->b.B);
    frnn_call call = make_call(l, &p->b, &r);
    call.x = dense(tokens, p->b.B, bytes);
    call.tokens = kind;
    call.threads = rarely(12) ? 1 + pick(4) : 1;
    if (frnn_run(l->params, &call) != FRNN_OK)
        fail("a call of tokens fails");
    check_same(p, "y of tokens", r.y, p->whole.y, rows * y_width(l));
    check_same(p, "h of tokens", r.h, p->whole.h, h_count(l, p->b.B));
    check_same(p, "c of tokens", r.c, p->whole.c, has_c(l) ? c_count(l, p->b.B) : 0);
    const size_t wrong = pick(rows ? rows : 1);
    if (rows) {
        write_token(tokens, kind, wrong, chance(2) ? -1 - (int64_t)pick(9) : (int64_t)(rows + pick(9)));
        if (frnn_run(l->params, &call) != (is_read(&p->b, wrong) ? FRNN_NO_SUCH_TOKEN : FRNN_OK))
            fail("token %zu, which names no row, is not found out, or should not be read", wrong);
    }
    free(tokens), free_result(&r);
}

static void read_tokens(const problem *p, const frnn_target *target)
{
    layer l = with_embedding(&p->l, &p->b, target);
    call_with_tokens(p, &l);
    if (!l.spec.reverse && p->b.B && !p->b.ragged && !p->b.resets)
        check_pooled(&l, &p->b, &p->whole, false);
    frnn_params_free(l.params);
}

#endif
