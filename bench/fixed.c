/* One layer whose sizes are known to the compiler, in the way of libraries for real-time audio: fixed.py compiles and loads it,
 * with -DCELL_LSTM or -DCELL_GRU, -DI= inputs and -DH= units. Sums are kept in registers, U is read column by column, and tanh is
 * a quotient of polynomials that is right to 1e-4 or so, much less than fastrnn's. */
#include <stddef.h>
#include <string.h>

#if defined(__AVX512F__)
#define WIDTH 16
#define MOST 24 /* registers of sums */
#elif defined(__aarch64__)
#define WIDTH 4
#define MOST 24
#else
#define WIDTH 8
#define MOST 12
#endif

typedef float vec __attribute__((vector_size(WIDTH * sizeof(float))));

#ifdef CELL_LSTM
#define GATES 4
#else
#define GATES 3
#endif
#define GATE ((H + WIDTH - 1) / WIDTH) /* vectors of a gate */
#define VECTORS (GATES * GATE)
#define TILES ((VECTORS + MOST - 1) / MOST)
#define TILE ((VECTORS + TILES - 1) / TILES)

static vec W[TILES][I][TILE], U[TILES][H][TILE], b[TILES][TILE];
#ifdef CELL_GRU
static vec d[TILES][TILE]; /* of U h */
#endif
static float h[GATE * WIDTH] __attribute__((aligned(64)));
static vec c[GATE];

static inline vec bound(vec x)
{
    for (int i = 0; i < WIDTH; i++)
        x[i] = x[i] < -4.97f ? -4.97f : x[i] > 4.97f ? 4.97f : x[i];
    return x;
}

/* The continued fraction of tanh, to x^7 / x^6. */
static inline vec tanh_of(vec x)
{
    x = bound(x);
    const vec s = x * x;
    return x * (135135 + s * (17325 + s * (378 + s))) / (135135 + s * (62370 + s * (3150 + 28 * s)));
}

static inline vec sigmoid_of(vec x) { return 0.5f + 0.5f * tanh_of(0.5f * x); }

static inline void add(vec sums[TILE], const vec (*columns)[TILE], const float *x, size_t n)
{
    for (size_t k = 0; k < n; k++)
#pragma GCC unroll 32
        for (int v = 0; v < TILE; v++)
            sums[v] += columns[k][v] * x[k];
}

static void step(const float *x)
{
    vec z[TILES * TILE];
#ifdef CELL_GRU
    vec n[TILES * TILE]; /* U h + d, apart from W x + b */
#endif
    for (int t = 0; t < TILES; t++) {
        vec sums[TILE];
        memcpy(sums, b[t], sizeof sums);
        add(sums, W[t], x, I);
#ifdef CELL_GRU
        memcpy(z + t * TILE, sums, sizeof sums);
        memcpy(sums, d[t], sizeof sums);
        add(sums, U[t], h, H);
        memcpy(n + t * TILE, sums, sizeof sums);
#else
        add(sums, U[t], h, H);
        memcpy(z + t * TILE, sums, sizeof sums);
#endif
    }
    for (int v = 0; v < GATE; v++) {
        vec next;
#ifdef CELL_GRU
        vec before;
        memcpy(&before, h + v * WIDTH, sizeof before);
        const vec r = sigmoid_of(z[v] + n[v]), u = sigmoid_of(z[GATE + v] + n[GATE + v]),
                  candidate = tanh_of(z[2 * GATE + v] + r * n[2 * GATE + v]);
        next = candidate + u * (before - candidate);
#else
        c[v] = sigmoid_of(z[GATE + v]) * c[v] + sigmoid_of(z[v]) * tanh_of(z[2 * GATE + v]);
        next = sigmoid_of(z[3 * GATE + v]) * tanh_of(c[v]);
#endif
        memcpy(h + v * WIDTH, &next, sizeof next);
    }
}

/* Weights as PyTorch has them: W (GATES*H, I), U (GATES*H, H), b and d (GATES*H). The state is zero. */
void fixed_begin(const float *w, const float *u, const float *w_bias, const float *u_bias)
{
    for (size_t gate = 0; gate < GATES; gate++)
        for (size_t unit = 0; unit < H; unit++) {
            const size_t row = gate * H + unit, v = gate * GATE + unit / WIDTH, lane = unit % WIDTH;
            for (size_t k = 0; k < I; k++)
                W[v / TILE][k][v % TILE][lane] = w[row * I + k];
            for (size_t k = 0; k < H; k++)
                U[v / TILE][k][v % TILE][lane] = u[row * H + k];
#ifdef CELL_GRU
            b[v / TILE][v % TILE][lane] = w_bias[row];
            d[v / TILE][v % TILE][lane] = u_bias[row];
#else
            b[v / TILE][v % TILE][lane] = w_bias[row] + u_bias[row];
#endif
        }
    memset(h, 0, sizeof h);
    memset(c, 0, sizeof c);
}

/* Steps over x (T, I), outputs to y (T, H). */
void fixed_run(const float *x, float *y, size_t T)
{
    for (size_t t = 0; t < T; t++) {
        step(x + t * I);
        memcpy(y + t * H, h, H * sizeof *h);
    }
}
