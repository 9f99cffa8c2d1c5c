#define _POSIX_C_SOURCE 200809L

#include "threads.h"

#include <pthread.h>
#include <time.h>

/* One pool for the process. Workers are started when first wanted, and sleep between jobs. */
enum { MOST_WORKERS = 255 };

typedef struct job {
    frnn_task *task;
    void *context;
    size_t n, next, done; /* tasks: all, the next to take, finished */
    size_t helpers;       /* workers that may still join */
} job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all that follows */
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;
static job *current; /* NULL: none */
static size_t workers;

/* Takes tasks of a job until none is left to take. Called and left with the lock held. */
static void work_on(job *j, bool by_caller)
{
    while (j->next < j->n) {
        const size_t i = j->next++;
        pthread_mutex_unlock(&lock);
        j->task(j->context, i, by_caller);
        pthread_mutex_lock(&lock);
        if (++j->done == j->n)
            pthread_cond_broadcast(&finished);
    }
}

static void *worker(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!current || !current->helpers || current->next == current->n)
            pthread_cond_wait(&posted, &lock);
        current->helpers--;
        work_on(current, false);
    }
    return NULL;
}

/* A forked child has one thread and no workers; the lock may have been held by one that is gone. */
static void start_anew(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    posted = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    finished = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    current = NULL;
    workers = 0;
}

static void start_workers(size_t wanted)
{
    static bool prepared;
    if (!prepared)
        prepared = pthread_atfork(NULL, NULL, start_anew) == 0;
    for (pthread_t thread; prepared && workers < wanted && workers < MOST_WORKERS; workers++) {
        if (pthread_create(&thread, NULL, worker, NULL))
            return;
        pthread_detach(thread);
    }
}

void frnn_parallel(size_t n, size_t threads, frnn_task *task, void *context)
{
    const size_t helpers = (threads < n ? threads : n) - (n > 0);
    job j = {.task = task, .context = context, .n = n, .helpers = helpers};
    bool shared = false;
    if (n > 1 && threads > 1) {
        pthread_mutex_lock(&lock);
        if (!current) {
            start_workers(helpers);
            shared = true;
            current = &j;
            j.next = 1;
            pthread_cond_broadcast(&posted);
        }
        pthread_mutex_unlock(&lock);
    }
    if (!shared) {
        for (size_t i = 0; i < n; i++)
            task(context, i, true);
        return;
    }
    task(context, 0, true);
    pthread_mutex_lock(&lock);
    j.done++;
    work_on(&j, true);
    while (j.done < j.n)
        pthread_cond_wait(&finished, &lock);
    current = NULL;
    pthread_mutex_unlock(&lock);
}

double frnn_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
