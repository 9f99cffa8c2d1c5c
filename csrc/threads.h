/* Threads and time: the only part that knows the operating system's. */
#ifndef FRNN_THREADS_H
#define FRNN_THREADS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Where a task runs. */
typedef struct frnn_thread_context {
    bool caller; /* on the calling thread */
    bool alone;  /* no other thread takes part in this job */
} frnn_thread_context;

/* Calls task(context, i, where) once for each i < n, on the calling thread and at most threads - 1 others, and returns
 * when all are done. Tasks are begun in order, and task 0 is the calling thread's. Where the workers are busy with
 * another caller's tasks, or can't be had, the calling thread does all: it takes longer, and that is all. The calling thread
 * calls idle(context) now and then while it waits for the last tasks of others.
 *
 * False, if other threads took part and a task or idle forked the process: in the child the others' tasks will never be
 * done. */
typedef void frnn_task(void *context, size_t i, frnn_thread_context where);
typedef void frnn_idle(void *context);
bool frnn_parallel(size_t n, size_t threads, frnn_task *task, frnn_idle *idle, void *context);

/* How often this process, or the ones that it comes from, have been forked since the pool was first used. Where the number
 * changes during a call, all its other threads are gone. */
size_t frnn_forks(void);

/* A place where n threads wait for each other, as often as they like. What each wrote before is seen by all after. */
typedef struct frnn_barrier {
    atomic_size_t waiting;
    size_t n;
    size_t forks; /* frnn_forks() of the process that they belong to: a child of it waits for nobody */
    _Alignas(64) atomic_size_t generation; /* a line of its own: who comes does not disturb those who look */
} frnn_barrier;

void frnn_barrier_wait(frnn_barrier *barrier);

/* A moment of waiting for another thread, the how manieth in a row: short at first, then the processor is offered to
 * whoever wants it. */
void frnn_pause(size_t nth);

/* Seconds since some moment in the past; never goes back. */
double frnn_seconds(void);

#endif
