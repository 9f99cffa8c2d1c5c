/* Threads and time: the only file that calls the operating system for them. */
#ifndef FRNN_THREADS_H
#define FRNN_THREADS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Which thread a task runs on. */
typedef struct frnn_thread_context {
    bool caller; /* on the calling thread */
    bool alone;  /* no other thread takes part in this job */
} frnn_thread_context;

/* Calls task(context, i, where) once for each i < n, on the calling thread and at most threads - 1 others, and returns
 * when all are done. Tasks are begun in order, and task 0 is the calling thread's. Where the workers are busy with
 * another caller's tasks, or cannot be started, the calling thread runs all tasks. It calls idle(context) now and then while it
 * waits for tasks that other threads run.
 *
 * False, if other threads took part and a task or idle forked the process: in the child the others' tasks will never be
 * done. */
typedef void frnn_task(void *context, size_t i, frnn_thread_context where);
typedef void frnn_idle(void *context);
bool frnn_parallel(size_t n, size_t threads, frnn_task *task, frnn_idle *idle, void *context);

/* Seconds that a worker is expected to take until it runs: as it did lately, and the usual ones the longer that is ago. */
double frnn_recent_wake(double usual);

/* How often this process, or the ones that it comes from, have been forked since the pool was first used. Where the number
 * changes during a call, all its other threads are gone. */
size_t frnn_forks(void);

/* A barrier of n threads. What each of them wrote before it, all of them read after it. */
typedef struct frnn_barrier {
    atomic_size_t waiting;
    size_t n;
    size_t forks; /* frnn_forks() of the threads' process: in a forked child, frnn_barrier_wait returns at once */
    _Alignas(64)
        atomic_size_t generation; /* on a cache line of its own: arrivals do not evict it from waiting threads */
} frnn_barrier;

void frnn_barrier_wait(frnn_barrier *barrier);

/* The nth wait in a row for another thread: a pause instruction at first, then the processor is offered to others. */
void frnn_pause(size_t nth);

/* Seconds since some moment in the past; never goes back. */
double frnn_seconds(void);

#endif
