/* Loaded before all other libraries (LD_PRELOAD): it counts what is allocated and locked, and refuses what it is told to
 * refuse. tests/support/preloaded.py reads and sets these variables from within the process.
 *
 * Allocations of the extension are told from all others by the address that malloc and free return to. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

long allocations, locks; /* everybody's */

uintptr_t extension_begin, extension_end; /* where its code lies */
long extension_mallocs;                   /* how often it asked */
long extension_bytes, extension_peak;     /* that it holds, and the most that it held */
long refuse_from, refuse_until;           /* of its mallocs, the first being 1: those that fail */
long threads_left = LONG_MAX;             /* that may still be created, by anybody */
atomic_long signals;                      /* that count_signal was given */

enum { MOST_BLOCKS = 4096 };
static struct {
    void *at;
    size_t bytes;
} blocks[MOST_BLOCKS];
static atomic_flag busy = ATOMIC_FLAG_INIT; /* whoever holds it writes the numbers of the extension */

static void enter(void)
{
    while (atomic_flag_test_and_set(&busy))
        ;
}

static void leave(void) { atomic_flag_clear(&busy); }

static int by_extension(void *caller) { return (uintptr_t)caller - extension_begin < extension_end - extension_begin; }

static void *count(size_t n)
{
    enter();
    extension_mallocs++;
    void *p = extension_mallocs >= refuse_from && extension_mallocs < refuse_until ? NULL : __libc_malloc(n);
    if (p) {
        int i = 0;
        while (blocks[i].at && i < MOST_BLOCKS - 1)
            i++;
        blocks[i].at = p;
        blocks[i].bytes = n;
        extension_bytes += (long)n;
        extension_peak = extension_bytes > extension_peak ? extension_bytes : extension_peak;
    } else {
        errno = ENOMEM;
    }
    leave();
    return p;
}

static void forget(void *p)
{
    enter();
    for (int i = 0; p && i < MOST_BLOCKS; i++)
        if (blocks[i].at == p) {
            extension_bytes -= (long)blocks[i].bytes;
            blocks[i].at = NULL;
            break;
        }
    leave();
}

void count_signal(int number)
{
    (void)number;
    signals++;
}

void *malloc(size_t n)
{
    allocations++;
    return by_extension(__builtin_return_address(0)) ? count(n) : __libc_malloc(n);
}

void free(void *p)
{
    if (by_extension(__builtin_return_address(0)))
        forget(p);
    __libc_free(p);
}

void *calloc(size_t n, size_t m) { return allocations++, __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return allocations++, __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { return allocations++, __libc_memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n)
{
    *p = aligned_alloc(a, n);
    return *p ? 0 : ENOMEM;
}

int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    static int (*real)(pthread_mutex_t *);
    locks++;
    if (!real)
        real = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
    return real(mutex);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (threads_left <= 0)
        return EAGAIN;
    threads_left--;
    if (!real)
        real =
            (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, start, argument);
}
