/* Whether a call goes on: shared by its threads. */
#ifndef FRNN_PROGRESS_H
#define FRNN_PROGRESS_H

#include "kernel.h"
#include "threads.h"

/* A call that is expected to be as short as this is not interrupted. */
#define FRNN_SHORT_SECONDS 2e-3

typedef struct frnn_progress {
    atomic_int status; /* frnn_status: the first thread that cannot go on writes it, and all others end */
    size_t forks;      /* frnn_forks() at the beginning */
    uint64_t mode;     /* the floating-point mode that the calling thread came with */
    double ask_at;     /* when the caller is asked next; 0: not set yet. Of the calling thread alone */
    bool (*interrupted)(void *context); /* of frnn_call */
    void *context;
} frnn_progress;

/* Whether no thread has ended the call. */
static inline bool frnn_is_on(const frnn_progress *progress) { return atomic_load(&progress->status) == FRNN_OK; }

/* Ends the call, unless it has ended already. */
void frnn_give_up(frnn_progress *progress, frnn_status why);

/* Asks the caller whether to end, and ends the call then. Of the calling thread alone. */
void frnn_ask(frnn_progress *progress);

/* Whether the call goes on. `asks`: on the calling thread, which asks now and then; `alone`: no other thread takes part. */
bool frnn_goes_on(frnn_progress *progress, bool asks, bool alone);

#endif
