/* One layer in one direction on its way back over a tape.
 *
 * Steps go back in chunks. A chunk leaves a row of gradients for each step and row of the batch (frnn_gradient_row); then
 * come the products of the whole chunk: gradients of what the layer read (back.c), and of its weights (terms.c). */
#ifndef FRNN_BACK_H
#define FRNN_BACK_H

#include "arena.h"
#include "progress.h"
#include "tape.h"
#include "team.h"
#include "transposed.h"

/* Pointers to rows, which the kernel moves along: one set a thread. */
typedef struct frnn_back_pointers {
    void **y, **middle, **carry;
    const void **later, **before, **h, **tape[FRNN_MOST_STAGES];
} frnn_back_pointers;

/* Rows of the batch that one thread takes back, or some threads that share the units: those of rank first, first + parts,
 * and so on. */
typedef struct frnn_back_part {
    size_t first, parts, n;
    char *sums;                   /* [step of the chunk][row][block][lane]: dh so far */
    char *carry;                  /* [row][block][lane] */
    frnn_back_pointers *pointers; /* of each thread */
    bool *goes_on;                /* whether more steps are taken: the first thread decides it, and the others follow */
} frnn_back_part;

/* What a thread needs to multiply rows of gradients by weights: for gradients of what was read. */
typedef struct frnn_back_reader {
    const void **rows; /* of gradients */
    char *inputs;      /* [row][block][lane]: products */
} frnn_back_reader;

/* Sums over all steps and rows, whose order is: steps back from the last, rows with the longest first. They are broken
 * into chains of FRNN_CHAIN terms, whatever the chunks are: terms that do not fill a chain wait for the next chunk. */
typedef struct frnn_terms {
    size_t n;
    const void **gradients, **x, **h; /* rows */
    char *kept, *kept_x, *kept_h;     /* rows that wait; x and h of a marked tape, whose steps are recorded anew */
} frnn_terms;

typedef struct frnn_back {
    const frnn_params *params;
    const frnn_tape *tape;
    const frnn_record *record;
    const frnn_pull *pull;
    const frnn_back_layer *layer;
    size_t index, direction;              /* of the layer and direction among all, and of the direction */
    size_t number, row_bytes;             /* of a number, of a row of gradients */
    size_t chunk, parts;                  /* steps, at most; of the batch */
    size_t sharers;                       /* threads that share the units of a part, at most */
    size_t sources;                       /* tasks of gradients of what was read: parts, or more */
    frnn_sequence dy;                     /* of this direction; base NULL: zeros */
    bool dy_is_last;                      /* of the last step alone */
    frnn_sequence outputs;                /* of this direction */
    frnn_sequence source;                 /* what the layer read */
    size_t source_row;                    /* bytes */
    frnn_sequence dsource;                /* gradients of it; base NULL: not wanted */
    bool adds;                            /* to dsource, which the other direction adds to as well */
    const frnn_weight_gradients *weights; /* NULL: not wanted */

    char *gradients; /* [slot][row]: slot 0 is the step after the chunk, slot 1 its last step */
    char *zeros; /* a row of gradients, of a step that says nothing of the one before it; NULL: there are no resets */
    frnn_back_part *part;
    frnn_back_reader *readers; /* one a task */
    frnn_terms terms;
} frnn_back;

/* Whether a direction reads times from the last one to the first. */
static inline bool frnn_back_reverse(const frnn_back *back) { return back->direction || !back->params->spec.forward; }

/* A row of a sequence at a step of the record. */
static inline char *frnn_back_at(const frnn_back *back, const frnn_sequence *sequence, size_t step, size_t row)
{
    const bool by_time = sequence->order == FRNN_BY_TIME, turned = by_time && frnn_back_reverse(back);
    const size_t from = by_time ? 0 : back->record->from;
    return frnn_sequence_at(sequence, turned ? back->tape->lengths[row] - 1 - step : step - from, row);
}

/* How many rows have a step: those of the first ranks. */
static inline size_t frnn_back_active(const frnn_tape *tape, size_t step)
{
    size_t n = tape->B;
    while (n && tape->lengths[tape->rows[n - 1]] <= step)
        n--;
    return n;
}

/* A row of gradients of a step of the chunk that ends before step `end`, or of step `end`, which is done. */
static inline char *frnn_back_gradients(const frnn_back *back, size_t end, size_t step, size_t rank)
{
    return back->gradients + ((end - step) * back->tape->B + rank) * back->row_bytes;
}

/* h before a step. */
const char *frnn_back_h(const frnn_back *back, size_t step, size_t row);

/* What a thread needs beside the layer: what frnn_goes_on asks, and scratch of its own. */
typedef struct frnn_back_thread {
    frnn_progress *progress;
    bool asks, alone;
    size_t steps, rows;   /* that the kernel may be given before frnn_goes_on is asked again */
    void *scratch;        /* of outer products */
    size_t share, shares; /* of the units, which it shares with its team */
    frnn_team *team;
} frnn_back_thread;

/* Lays out memory of a layer, for parts of the batch. */
void frnn_back_lay_out(frnn_back *back, frnn_arena *arena);

/* Before the last chunk: the carry starts from the gradients of the final states beside h. */
void frnn_back_begin(frnn_back *back);

/* The steps of a chunk, for the rows of a part. */
void frnn_back_steps(frnn_back *back, size_t part, size_t begin, size_t end, const frnn_back_thread *thread);

/* Then, gradients of what the layer read there: one of back->sources tasks, which share the rows or the steps. */
void frnn_back_source(frnn_back *back, size_t source, size_t begin, size_t end, const frnn_back_thread *thread);

/* After the chunk of the first step, gradients of the states before it, for the rows of a part. */
void frnn_back_initial(frnn_back *back, size_t part);

/* Takes the terms of a chunk, when its steps are done. */
void frnn_terms_take(frnn_back *back, size_t begin, size_t end);

/* Adds the sums over the first n terms to gradients of weights: one of some slices of these, which are disjoint. */
void frnn_terms_add(const frnn_back *back, size_t n, size_t slice, size_t slices, const frnn_back_thread *thread);

/* Terms that make whole chains; all at the end. */
size_t frnn_terms_ready(const frnn_back *back, bool all);

/* Forgets the first n terms, when all slices of them are added, and copies the others to where they may wait. */
void frnn_terms_drop(frnn_back *back, size_t n);

/* Gradients of weights are zeros. */
void frnn_terms_clear(const frnn_back *back);

/* Lays out memory for at most so many terms of a chunk. */
void frnn_terms_lay_out(frnn_back *back, frnn_arena *arena, size_t rows);

#endif
