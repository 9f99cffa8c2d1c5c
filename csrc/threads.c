#define _GNU_SOURCE /* affinity, on Linux */

#include "threads.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#ifndef _WIN32
#include <signal.h>
#endif

#include "cpu.h"
#include "fastrnn.h"

/* One pool for the process. Workers are started when first wanted. After a job they wait awake for a moment, and then sleep. */

enum {
    SPINS = 4096,     /* waits for another thread's write, before the processor is offered to others */
    LAST_SPINS = 2000 /* waits of a caller for its workers' last tasks, before it sleeps */
};

#define IDLE_SECONDS 0.03
#define LINGER_SECONDS                                                                                                 \
    100e-6 /* that a worker waits awake: about the time of waking it, so this costs at most what it may save */
#define FORGET_SECONDS 0.02           /* after which half of what a wake took more or less than usual is forgotten */
#define NEW_PART 0.3                  /* of a wake in what is remembered of some */
#define STACK_BYTES ((size_t)1 << 20) /* a worker's stack: the system's default may be too small */

typedef struct job {
    frnn_task *task;
    void *context;
    size_t n, next;     /* tasks: all, the next to take */
    atomic_size_t done; /* finished; written with the lock held */
    size_t helpers;     /* workers that may still join */
    double posted;      /* seconds; 0: a worker has joined */
} job;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all that follows */
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;
static job *current;       /* NULL: none */
static atomic_size_t jobs; /* posted so far */
static pthread_t threads_of_pool[FRNN_MOST_THREADS];
static size_t workers, lingering; /* all, and those that wait awake */
static atomic_size_t forks;       /* of this process and of those that it comes from, since the pool was first used */
static int kept_off = -1;         /* the processor that workers may not use: that of the last caller */

static _Atomic(double) recent_wake, recent_at; /* of the last wakes; when the last one was */

/* A worker joins the job, or none has till its end: then a wake takes so long at least, and only what is longer than
 * expected says something. Called with the lock held. */
static void remember_wake(job *j, bool joins)
{
    if (j->posted == 0)
        return;
    const double now = frnn_seconds(), wake = now - j->posted,
                 before = frnn_recent_wake(wake); /* wakes of long ago do not count */
    if (!joins && wake < before)
        return;
    atomic_store_explicit(&recent_wake, before + NEW_PART * (wake - before), memory_order_relaxed);
    atomic_store_explicit(&recent_at, now, memory_order_relaxed);
    j->posted = 0;
}

double frnn_recent_wake(double usual)
{
    const double ago = frnn_seconds() - atomic_load_explicit(&recent_at, memory_order_relaxed);
    return usual + (atomic_load_explicit(&recent_wake, memory_order_relaxed) - usual) / (1 + ago / FORGET_SECONDS);
}

/* Takes tasks of a job until none is left to take. Called and left with the lock held. */
static void work_on(job *j, bool by_caller)
{
    while (j->next < j->n) {
        const size_t i = j->next++;
        pthread_mutex_unlock(&lock);
        j->task(j->context, i, (frnn_thread_context){.caller = by_caller});
        pthread_mutex_lock(&lock);
        if (atomic_fetch_add(&j->done, 1) + 1 == j->n)
            pthread_cond_broadcast(&finished);
    }
}

/* Waits awake for another job, until a time at most. Called and left with the lock held. */
static void linger(double until)
{
    enum { PAUSES = 16 }; /* between two looks at the clock */
    const size_t before = atomic_load_explicit(&jobs, memory_order_relaxed);
    lingering++;
    pthread_mutex_unlock(&lock);
    for (size_t i = 1; atomic_load_explicit(&jobs, memory_order_relaxed) == before; i++) {
        if (i % PAUSES == 0 && frnn_seconds() >= until)
            break;
        frnn_pause(0);
    }
    pthread_mutex_lock(&lock);
    lingering--;
}

static void *worker(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    for (double until = 0;;) {
        if (current && current->helpers && current->next < current->n) {
            current->helpers--;
            remember_wake(current, true);
            work_on(current, false);
            until = frnn_seconds() + LINGER_SECONDS;
        } else if (frnn_seconds() < until) { /* also where others took a job that came */
            linger(until);
        } else {
            pthread_cond_wait(&posted, &lock);
        }
    }
    return NULL;
}

/* A forked child has one thread and no workers; a thread that is gone may have held the lock. */
static void start_anew(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    posted = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    finished = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    current = NULL;
    workers = lingering = 0;
    kept_off = -1;
    atomic_fetch_add(&forks, 1);
}

size_t frnn_forks(void) { return atomic_load_explicit(&forks, memory_order_relaxed); }

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool survives_fork;

static void prepare(void)
{
#ifdef _WIN32
    (void)start_anew;
    survives_fork = true; /* there are no forks */
#else
    survives_fork = pthread_atfork(NULL, NULL, start_anew) == 0;
#endif
}

/* Signals are for the program's own threads: a worker that got one would leave its thread asleep. */
static bool start_worker(pthread_t *thread, const pthread_attr_t *attributes)
{
#ifdef _WIN32
    return !pthread_create(thread, attributes, worker, NULL);
#else
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool starts = !pthread_create(thread, attributes, worker, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return starts;
#endif
}

static void start_workers(size_t wanted)
{
    pthread_attr_t attributes;
    if (!survives_fork || workers >= wanted || pthread_attr_init(&attributes))
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (workers < wanted && workers + 1 < FRNN_MOST_THREADS && start_worker(&threads_of_pool[workers], &attributes))
        workers++;
    pthread_attr_destroy(&attributes);
}

/* A caller does not sleep while its workers wake, and a worker that is put on its processor is not seen for some
 * milliseconds. So workers may use all processors that the caller may use but the one that it is on. */
static void keep_workers_off_caller(void)
{
#ifdef __linux__
    static size_t kept_workers; /* how many of them are kept off */
    const int here = sched_getcpu();
    cpu_set_t set;
    if (here < 0 || (here == kept_off && workers == kept_workers))
        return;
    const size_t own = (size_t)here;
    if (sched_getaffinity(0, sizeof set, &set) || !CPU_ISSET(own, &set) || CPU_COUNT(&set) < 2)
        return;
    CPU_CLR(own, &set);
    for (size_t i = 0; i < workers; i++)
        pthread_setaffinity_np(threads_of_pool[i], sizeof set,
                               &set); /* where it is refused, nothing is lost but time */
    kept_off = here;
    kept_workers = workers;
#endif
}

/* The thread that holds the lock may have been stopped by the system: a caller gives up soon, and runs its job alone. */
static bool take_lock(void)
{
    for (size_t i = 0; i < SPINS; i++) {
        if (!pthread_mutex_trylock(&lock))
            return true;
        frnn_pause(0);
    }
    return false;
}

/* Gives the pool a job, and wakes as many workers as the job has tasks for. False: the pool has another job, or no
 * workers. */
static bool post(job *j)
{
    pthread_once(&once, prepare); /* before the lock is ever held: another thread may fork at any time */
    if (!take_lock())
        return false;
    const bool vacant = !current;
    if (vacant)
        start_workers(j->helpers);
    j->helpers = j->helpers < workers ? j->helpers : workers;
    const bool posts = vacant && j->helpers;
    if (posts) {
        keep_workers_off_caller();
        j->posted = frnn_seconds();
        current = j;
        atomic_fetch_add_explicit(&jobs, 1, memory_order_relaxed);
        for (size_t i = lingering; i < j->helpers; i++)
            pthread_cond_signal(&posted);
    }
    pthread_mutex_unlock(&lock);
    return posts;
}

/* Waits with the lock held; true if nothing came in that time. */
static bool wait_until(pthread_cond_t *condition, double seconds)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME,
                  &end); /* the clock of a condition variable; not every system can give it another one */
    const long nanoseconds = end.tv_nsec + (long)(seconds * 1e9);
    end.tv_sec += nanoseconds / 1000000000;
    end.tv_nsec = nanoseconds % 1000000000;
    return pthread_cond_timedwait(condition, &lock, &end) == ETIMEDOUT;
}

bool frnn_parallel(size_t n, size_t threads, frnn_task *task, frnn_idle *idle, void *context)
{
    job j = {.task = task, .context = context, .n = n, .next = 1}; /* the first is the caller's */
    j.helpers = n < 2 || threads < 2 ? 0 : (threads < n ? threads : n) - 1;
    if (!j.helpers || !post(&j)) {
        for (size_t i = 0; i < n; i++)
            task(context, i, (frnn_thread_context){.caller = true, .alone = true});
        return true;
    }
    const size_t before = frnn_forks();
    task(context, 0, (frnn_thread_context){.caller = true});
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&j.done, 1);
    work_on(&j, true);
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < LAST_SPINS && atomic_load(&j.done) < n; i++)
        frnn_pause(0);
    pthread_mutex_lock(&lock);
    while (atomic_load(&j.done) < n && frnn_forks() == before)
        if (wait_until(&finished, IDLE_SECONDS)) {
            pthread_mutex_unlock(&lock);
            idle(context);
            pthread_mutex_lock(&lock);
        }
    if (current == &j) { /* not so in a child, which may have made calls since */
        current = NULL;
        remember_wake(&j, false);
    }
    pthread_mutex_unlock(&lock);
    return frnn_forks() == before;
}

void frnn_pause(size_t nth)
{
    if (nth >= SPINS) {
        sched_yield();
        return;
    }
#if FRNN_X86
    __builtin_ia32_pause();
#elif FRNN_ARM64
    __asm__ volatile("yield");
#endif
}

void frnn_barrier_wait(frnn_barrier *barrier)
{
    const size_t generation = atomic_load_explicit(&barrier->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->waiting, 1, memory_order_acq_rel) + 1 == barrier->n) {
        atomic_store_explicit(&barrier->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->generation, generation + 1, memory_order_release);
        return;
    }
    for (size_t i = 0; atomic_load_explicit(&barrier->generation, memory_order_acquire) == generation; i++) {
        if (frnn_forks() != barrier->forks)
            return;
        frnn_pause(i);
    }
}

double frnn_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
