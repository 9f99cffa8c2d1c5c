/* Times the steps of a stream of one row: tools/measure_realtime.py runs it.
 *
 *     measure_realtime IMAGE STEPS [paced] [locked] [fifo]
 *
 * paced: a step every millisecond, and sleep between them; locked: all memory by mlockall; fifo: SCHED_FIFO, above all
 * threads that are not in real time. It prints the median, p99, p99.9 and the maximum in microseconds, and how many page
 * faults and how many involuntary switches to other threads there were. */
#define _GNU_SOURCE

#include <errno.h>
#include <fastrnn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

enum { PERIOD = 1000000 /* nanoseconds */ };

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static bool has(int count, char **arguments, const char *word)
{
    for (int i = 3; i < count; i++)
        if (strcmp(arguments[i], word) == 0)
            return true;
    return false;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void sleep_until(int64_t at)
{
    const struct timespec time = {(time_t)(at / 1000000000), (long)(at % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR)
        ;
}

static int compare(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments)
{
    if (count < 3)
        fail("measure_realtime", "expected an image and a number of steps");
    const size_t steps = strtoul(arguments[2], NULL, 10);
    frnn_params *params;
    frnn_stream *stream;
    frnn_status status = frnn_params_load(arguments[1], NULL, &params);
    if (status != FRNN_OK)
        fail(arguments[1], frnn_status_text(status));
    status = frnn_stream_new(params, 1, &stream);
    if (status != FRNN_OK)
        fail(arguments[1], frnn_status_text(status));
    void *x = calloc(frnn_params_spec(params)->input_size + 1, sizeof(double));
    int64_t *took = malloc(steps * sizeof *took);
    if (!x || !took || !steps)
        fail("measure_realtime", "expected memory, and a step");
    memset(took, 1, steps * sizeof *took); /* pages that the loop itself writes */
    if (has(count, arguments, "locked") && mlockall(MCL_CURRENT | MCL_FUTURE))
        fail("mlockall", strerror(errno));
    if (has(count, arguments, "fifo") && sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 50}))
        fail("SCHED_FIFO", strerror(errno));
    const bool paced = has(count, arguments, "paced");

    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    const int64_t start = now();
    for (size_t i = 0; i < steps; i++) {
        if (paced)
            sleep_until(start + (int64_t)i * PERIOD);
        const int64_t at = now();
        frnn_stream_step(stream, x, 0, FRNN_NO_TOKENS, 1);
        took[i] = now() - at;
    }
    getrusage(RUSAGE_SELF, &after);

    qsort(took, steps, sizeof *took, compare);
    printf("%.2f %.2f %.2f %.2f %ld %ld\n", 1e-3 * (double)took[steps / 2], 1e-3 * (double)took[steps * 99 / 100],
           1e-3 * (double)took[steps * 999 / 1000], 1e-3 * (double)took[steps - 1], after.ru_minflt - before.ru_minflt,
           after.ru_nivcsw - before.ru_nivcsw);
    frnn_stream_free(stream);
    frnn_params_free(params);
    free(x), free(took);
    return 0;
}
