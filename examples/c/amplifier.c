/* A guitar amplifier: an LSTM of one input and 40 units, and a dense head, on sound of 48 kHz in blocks of 64 samples.
 *
 *     amplifier FOLDER [--paced]
 *
 * amplifier.py writes amplifier.frnn, head.f32 and input.f32 to FOLDER; this program writes output.f32, and prints how much
 * of the time between two blocks a block took. --paced: blocks come at their times, as from a sound card, and the thread
 * sleeps between them. The loop over blocks allocates nothing, and makes no system call but to learn the time and to sleep. */
#define _GNU_SOURCE

#include <errno.h>
#include <fastrnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { RATE = 48000, BLOCK = 64 };

#define DEADLINE ((double)BLOCK / RATE) /* 1.333 ms */

typedef struct amplifier {
    frnn_params *params;
    frnn_stream *stream;
    size_t units;
    float *head; /* a weight a unit, and the bias */
} amplifier;

static void process(amplifier *self, const float *in, float *out, size_t samples)
{
    for (size_t i = 0; i < samples; i++) {
        const int slot = frnn_stream_step(self->stream, &in[i], sizeof *in, FRNN_NO_TOKENS, 1);
        const float *h = frnn_stream_output(self->stream, slot);
        float sum = self->head[self->units];
        for (size_t u = 0; u < self->units; u++)
            sum += self->head[u] * h[u];
        out[i] = sum;
    }
}

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static const char *path_of(const char *folder, const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* A file of float32. */
static float *read_floats(const char *path, size_t *count)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        fail(path, strerror(errno));
    *count = (size_t)ftell(file) / sizeof(float);
    rewind(file);
    float *numbers = malloc(*count * sizeof *numbers + 1);
    if (!numbers || fread(numbers, sizeof *numbers, *count, file) != *count)
        fail(path, "could not be read");
    fclose(file);
    return numbers;
}

static amplifier load(const char *folder)
{
    amplifier self = {0};
    size_t count;
    const char *path = path_of(folder, "amplifier.frnn");
    frnn_status status = frnn_params_load(path, NULL, &self.params);
    if (status != FRNN_OK)
        fail(path, frnn_status_text(status));
    const frnn_spec *spec = frnn_params_spec(self.params);
    if (spec->input_size != 1 || spec->dtype != FRNN_FLOAT32 || spec->reverse)
        fail(path, "expected float32 layers that run forward, of one input");
    status = frnn_stream_new(self.params, 1, &self.stream);
    if (status != FRNN_OK)
        fail(path, frnn_status_text(status));
    self.units = spec->proj_size ? spec->proj_size : spec->hidden_size;
    self.head = read_floats(path_of(folder, "head.f32"), &count);
    if (count != self.units + 1)
        fail(path_of(folder, "head.f32"), "expected a weight for each unit, and a bias");
    return self;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void sleep_until(double time)
{
    const struct timespec at = {(time_t)time, (long)(1e9 * (time - (double)(time_t)time))};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments)
{
    if (count < 2)
        fail("amplifier", "expected a folder");
    const char *folder = arguments[1];
    const int paced = count > 2 && strcmp(arguments[2], "--paced") == 0;
    amplifier amplifier = load(folder);
    size_t samples;
    float *in = read_floats(path_of(folder, "input.f32"), &samples);
    const size_t blocks = samples / BLOCK;
    float *out = calloc(samples + 1, sizeof *out);
    double *took = calloc(blocks + 1, sizeof *took);
    if (!out || !took || !blocks)
        fail("amplifier", "expected memory, and a block of sound");
    if (mlockall(MCL_CURRENT | MCL_FUTURE)) /* no page is taken away, or has to be made, from here on */
        fprintf(stderr, "memory is not locked: %s\n", strerror(errno));

    const double start = seconds();
    for (size_t b = 0; b < blocks; b++) {
        if (paced)
            sleep_until(start + (double)b * DEADLINE);
        const double before = seconds();
        process(&amplifier, in + b * BLOCK, out + b * BLOCK, BLOCK);
        took[b] = seconds() - before;
    }

    qsort(took, blocks, sizeof *took, compare);
    printf("%zu blocks of %d samples, %.3f ms each; share of the deadline: median %.1f %%, p99 %.1f %%, max %.1f %%\n",
           blocks, BLOCK, 1e3 * DEADLINE, 100 * took[blocks / 2] / DEADLINE, 100 * took[blocks * 99 / 100] / DEADLINE,
           100 * took[blocks - 1] / DEADLINE);
    FILE *file = fopen(path_of(folder, "output.f32"), "wb");
    if (!file || fwrite(out, sizeof *out, blocks * BLOCK, file) != blocks * BLOCK || fclose(file))
        fail("output.f32", strerror(errno));
    frnn_stream_free(amplifier.stream);
    frnn_params_free(amplifier.params);
    free(amplifier.head), free(in), free(out), free(took);
    return 0;
}
