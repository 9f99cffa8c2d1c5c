/* LSTM: sums i f g o, c is carried.
 *
 *   c' = f * c + i * g        h' = o * act(c')
 *
 * With tanh and sigmoid i * g and o * tanh(c') are products of two quotients, and each takes one division; f has one of
 * its own, since a saturated forget gate must keep c to the bit. */
#if REGISTERS == 32
enum { LSTM_ROW_BLOCKS = 3 };
#else
enum { LSTM_ROW_BLOCKS = 2 };
#endif

INLINE vec standard_lstm(const vec *sums, real *c)
{
    const quotient i = sigmoid_quotient(sums[0]), g = tanh_quotient(sums[2]);
    const vec next = v_fma(sigmoid(sums[1]), v_load(c), divide(times(i, g)));
    v_store(c, next);
    return divide(times(sigmoid_quotient(sums[3]), tanh_quotient(next)));
}

INLINE vec other_lstm(const frnn_stage *stage, size_t block, const vec *sums, real *c)
{
    const vec before = v_load(c);
    const real *peephole = stage->peephole ? (const real *)stage->peephole + block * 3 * WIDTH : NULL;
    vec i = sums[0], f = sums[1], o = sums[3];
    if (peephole) {
        i = v_fma(v_load(peephole), before, i);
        f = v_fma(v_load(peephole + WIDTH), before, f);
    }
    i = gate(false, stage, i);
    f = stage->spec->input_forget ? v_sub(v_set1(1), i) : gate(false, stage, f);
    const vec g = candidate(false, stage, sums[2]);
    const vec next = v_fma(f, before, v_mul(i, g));
    v_store(c, next);
    if (peephole)
        o = v_fma(v_load(peephole + 2 * WIDTH), next, o);
    o = gate(false, stage, o);
    return v_mul(o, activate_any(&stage->spec->output_activation, next));
}

INLINE vec finish_LSTM(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    real *c = carried(k, row, block, 0);
    return standard ? standard_lstm(sums, c) : other_lstm(k->stage, block, sums, c);
}
