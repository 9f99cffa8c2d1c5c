/* LSTM: sums i f g o, c is carried.
 *
 *   c' = f * c + i * g        h' = o * act(c')
 *
 * With tanh and sigmoid i * g and o * tanh(c') are products of two quotients, and each takes one division; f has one of
 * its own, since a saturated forget gate must keep c to the bit. */
enum { LSTM_BACK_ROW_BLOCKS = 0 };
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

/* A step that is on the tape: its sums, gates and cell states, and act(c). */
typedef struct lstm_step {
    vec sum_i, sum_f, sum_g, sum_o, i, f, g, o, before, c, out;
} lstm_step;

INLINE const real *peephole_of(bool standard, const stage_step *k, size_t block)
{
    return !standard && k->stage->peephole ? (const real *)k->stage->peephole + block * 3 * WIDTH : NULL;
}

INLINE lstm_step read_lstm(bool standard, const stage_step *k, size_t row, size_t block)
{
    const frnn_stage *stage = k->stage;
    const real *tape = taped(k, 0, row, block, 5), *peephole = peephole_of(standard, k, block);
    lstm_step s = {
        .sum_i = v_load(tape),
        .sum_f = v_load(tape + WIDTH),
        .sum_g = v_load(tape + 2 * WIDTH),
        .sum_o = v_load(tape + 3 * WIDTH),
        .before = v_load((const real *)k->past->before[row] + (block * 5 + 4) * WIDTH),
        .c = v_load(tape + 4 * WIDTH),
    };
    if (peephole) {
        s.sum_i = v_fma(v_load(peephole), s.before, s.sum_i);
        s.sum_f = v_fma(v_load(peephole + WIDTH), s.before, s.sum_f);
        s.sum_o = v_fma(v_load(peephole + 2 * WIDTH), s.c, s.sum_o);
    }
    s.i = gate(standard, stage, s.sum_i);
    s.f = !standard && stage->spec->input_forget ? v_sub(v_set1(1), s.i) : gate(standard, stage, s.sum_f);
    s.g = candidate(standard, stage, s.sum_g);
    s.o = gate(standard, stage, s.sum_o);
    s.out = standard ? tanh_(s.c) : activate_any(&stage->spec->output_activation, s.c);
    return s;
}

/* Gradients i f g o; then as frnn_gradient_row has it, o * act(c') for a projection, and products for peepholes. */
INLINE vec finish_LSTM_BACK(bool standard, const stage_step *k, size_t row, size_t block, const vec *sums)
{
    const frnn_stage *stage = k->stage;
    const frnn_spec *spec = stage->spec;
    const size_t H = stage->units;
    const real *peephole = peephole_of(standard, k, block);
    const bool coupled = !standard && spec->input_forget;
    const lstm_step s = read_lstm(standard, k, row, block);

    const vec dh = sums[0], dh_o = v_mul(dh, s.o);
    const vec d_o = gate_back(standard, stage, v_mul(dh, s.out), s.sum_o, s.o);
    vec dc = v_add(v_load(carried(k, row, block, 0)),
                   standard ? tanh_slope(dh_o, s.out) : slope_any(&spec->output_activation, dh_o, s.c, s.out));
    if (peephole)
        dc = v_fma(v_load(peephole + 2 * WIDTH), d_o, dc);
    const vec of_f = v_mul(dc, s.before);
    const vec of_i = coupled ? v_sub(v_mul(dc, s.g), of_f) : v_mul(dc, s.g);
    const vec d_i = gate_back(standard, stage, of_i, s.sum_i, s.i);
    const vec d_f = coupled ? v_set1(0) : gate_back(standard, stage, of_f, s.sum_f, s.f);
    vec kept = v_mul(dc, s.f);
    if (peephole) {
        kept = v_fma(v_load(peephole), d_i, kept);
        kept = v_fma(v_load(peephole + WIDTH), d_f, kept);
        const size_t at = 4 * H + (spec->proj_size ? spec->proj_size + H : 0);
        store_number(k, row, block, at, v_mul(d_i, s.before));
        store_number(k, row, block, at + H, v_mul(d_f, s.before));
        store_number(k, row, block, at + 2 * H, v_mul(d_o, s.c));
    }
    if (spec->proj_size)
        store_number(k, row, block, 4 * H + spec->proj_size, v_mul(s.o, s.out));
    v_store(carried(k, row, block, 0), kept);
    store_number(k, row, block, H, d_f);
    store_number(k, row, block, 2 * H, candidate_back(standard, stage, v_mul(dc, s.i), s.sum_g, s.g));
    store_number(k, row, block, 3 * H, d_o);
    return d_i;
}

/* Gates i f g o, then c. */
INLINE void read_LSTM(bool standard, const stage_step *k, size_t row, size_t block)
{
    const lstm_step s = read_lstm(standard, k, row, block);
    const vec all[] = {s.i, s.f, s.g, s.o, s.c};
    for (size_t i = 0; i < 5; i++)
        store_number(k, row, block, i * k->stage->units, all[i]);
}
