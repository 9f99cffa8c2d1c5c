/* Threads and time: the only part that knows the operating system's. */
#ifndef FRNN_THREADS_H
#define FRNN_THREADS_H

#include <stdbool.h>
#include <stddef.h>

/* Calls task(context, i, whether this is the calling thread) once for each i < n, on the calling thread and at most
 * threads - 1 others, and returns when all are done. Task 0 is the calling thread's. Where the workers are busy with
 * another caller's tasks, or can't be had, the calling thread does all: it takes longer, and that is all. */
typedef void frnn_task(void *context, size_t i, bool by_caller);
void frnn_parallel(size_t n, size_t threads, frnn_task *task, void *context);

/* Seconds since some moment in the past; never goes back. */
double frnn_seconds(void);

#endif
