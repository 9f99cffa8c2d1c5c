/* A strand: some rows of the batch in one direction, through one or more layers, with scratch of its own.
 * Strands write to no memory that another one reads, so they run side by side without locks. */
#ifndef FRNN_STRAND_H
#define FRNN_STRAND_H

#include "embedding.h"
#include "plan.h"
#include "team.h"

/* What one thread writes while it works on a strand. */
typedef struct frnn_scratch {
    const void **x, **h; /* pointers to rows */
    const void **found;  /* rows that tokens name */
    void **y;
    void **middle;                 /* rows between two stages */
    void **tape[FRNN_MOST_STAGES]; /* rows of the record */
    char *sums[FRNN_MOST_STAGES];  /* kept x parts, one a stage */
    void *x_integers, *h_integers; /* of rows, where weights are bytes */
    void *wide;                    /* U of a layer, where weights are halves that are made wide for many steps */
    const frnn_layer *of_wide;     /* the layer that it is of, in this thread's share */
} frnn_scratch;

/* One layer's progress in a wavefront. */
typedef struct frnn_front {
    _Alignas(FRNN_ALIGNMENT) atomic_bool taken; /* a thread is at work on its next chunk */
    atomic_size_t done;                         /* chunks that are computed */
} frnn_front;

typedef struct frnn_strand {
    const frnn_params *params;
    const frnn_call *call;
    frnn_plan plan;
    size_t n;                   /* rows */
    const size_t *rows;         /* the caller's row of each, longest first */
    size_t first, layers;       /* layers of the stack that it runs */
    size_t direction;           /* 0 .. D-1 */
    size_t parity;              /* of its first step: frnn_steps */
    size_t from, until;         /* steps that it runs */
    frnn_sequence source, sink; /* what its first layer reads and its last one writes */
    frnn_tokens tokens;         /* what source is made of */
    frnn_progress *progress;
    const frnn_record *record; /* where its steps are kept; NULL: nowhere */
    const frnn_tape *marks;    /* where the states before each segment are kept; NULL: nowhere */

    frnn_arena arena;       /* of all below */
    frnn_sequence *between; /* output of each layer, the last being sink */
    char *carry;            /* [layer][row], rows of frnn_carry_bytes */
    void **carry_rows;      /* [layer][row] */
    frnn_scratch *scratch;  /* one a thread: the plan's unit_threads or layer_threads */
    frnn_front *fronts;     /* one a layer */

    /* Its threads: the first one lays the strand out, waits a little for those that are to share the units, and begins with
     * those that came. In a wavefront others join when they come. */
    frnn_team team;
    bool goes_on; /* whether the next chunk is run: the first thread decides it, and the others follow */
} frnn_strand;

/* Runs a strand, or takes part in it: `first` is true for one of its threads, whose task must begin before the others'.
 * Scratch is in `local` where that is large enough, and in memory of its own where not. */
void frnn_strand_run(frnn_strand *strand, bool first, frnn_thread_context where, void *local, size_t local_bytes);

/* When all its threads are done: writes the final states, the last outputs and the zeros past each row's end, if the call
 * wants final states, and frees the scratch. */
void frnn_strand_end(frnn_strand *strand);

/* Bytes of scratch that a strand will take. */
size_t frnn_strand_bytes(frnn_strand *strand);

#endif
