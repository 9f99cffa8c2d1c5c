/* What a call keeps of itself for the way back. */
#ifndef FRNN_TAPE_H
#define FRNN_TAPE_H

#include "kernel.h"
#include "sequence.h"

/* Steps of some layers: the sums of all their stages, their outputs, and the states beside h. */
typedef struct frnn_record {
    const frnn_tape *tape;
    size_t from, until;   /* steps */
    size_t first, layers; /* of the stack */
    void *memory;         /* frnn_pages_take; NULL: the tape's */
    char *outputs;        /* [layer](steps, B, D * out), of the layers whose outputs are not in the tape's `whole` */
    /* Of each layer and direction: */
    char *start;                  /* [row], like rows of sums[0], for their states alone: those before step `from` */
    char *sums[FRNN_MOST_STAGES]; /* [step][row][block][sum][lane], in sums[0] with states beside h; or NULL */
} frnn_record;

struct frnn_tape {
    const frnn_params *params;
    size_t T, B;
    bool return_sequences;
    size_t segment; /* steps that are recorded at once: all, or those from one mark to the next */
    size_t bytes;
    void *memory;          /* frnn_pages_take */
    size_t *lengths;       /* (B) */
    size_t *rows;          /* (B), the longest first */
    unsigned char *resets; /* (T, B), or NULL */
    char *zeros;           /* with resets: a row of a record's sums[0], for its states alone, which are zeros */
    char *x;               /* (T, B), rows of I numbers, or tokens, which are int64_t */
    size_t x_row;          /* bytes */
    frnn_lookup lookup;    /* what tokens name; without tokens, of none */
    char *whole;           /* [layer](T, B, D * out), by time: outputs that both directions of a layer read */
    /* The cell's states before the first step of each segment: [segment](L * D, B, P or H), the others (.., H). */
    char *marks[FRNN_MOST_STATES];
    size_t sums_row_bytes[FRNN_MOST_STAGES]; /* of a record; 0: the stage keeps none */
    frnn_record all;                         /* of the only segment; not there if there are more */
};

/* Lays a tape out for a call, and copies its inputs. `segment` is at least 1. NULL: no memory. */
frnn_tape *frnn_tape_new(const frnn_params *params, const frnn_call *call, size_t segment);

/* Whether only marks are kept, from which steps are run again. */
static inline bool frnn_tape_is_marked(const frnn_tape *tape) { return tape->segment < tape->T; }

/* Steps of a segment that is not the last one. */
static inline size_t frnn_tape_steps(const frnn_tape *tape)
{
    return frnn_tape_is_marked(tape) ? tape->segment : tape->T;
}

/* Steps of the longest row. */
static inline size_t frnn_tape_longest(const frnn_tape *tape) { return tape->B ? tape->lengths[tape->rows[0]] : 0; }

/* Whether a row's states are zeros before a step of a layer in a direction. No row resets past its end. */
static inline bool frnn_tape_is_reset(const frnn_tape *tape, size_t index, size_t step, size_t row)
{
    if (!tape->resets || step >= tape->lengths[row])
        return false;
    const bool reverse = index % tape->params->D || !tape->params->spec.forward;
    return tape->resets[(reverse ? tape->lengths[row] - 1 - step : step) * tape->B + row];
}

/* A state of a layer in a direction before the first step of a segment. */
char *frnn_tape_mark(const frnn_tape *tape, size_t state, size_t segment, size_t index, size_t row);

/* What a layer reads where that is kept by time: x of the lowest layer, and of two directions the outputs of both. */
frnn_sequence frnn_tape_whole(const frnn_tape *tape, size_t layer);

/* Memory for segments of some layers of a marked tape: to be given back by frnn_record_free. */
bool frnn_record_new(frnn_record *record, const frnn_tape *tape, size_t first, size_t layers);
void frnn_record_free(frnn_record *record);

/* The record is of a segment from now on. */
void frnn_record_begin(frnn_record *record, size_t segment);

/* Outputs of a layer, and what it reads: rows of all directions. */
frnn_sequence frnn_record_outputs(const frnn_record *record, size_t layer);
frnn_sequence frnn_record_source(const frnn_record *record, size_t layer);

/* The sums of a stage of a layer in a direction, by step; base NULL: the stage keeps none. */
frnn_sequence frnn_record_sums(const frnn_record *record, size_t index, int stage);

/* The row with the states beside h, if the cell has any, before a step; NULL: none, before the first step. Those of a row
 * that resets are zeros. */
const char *frnn_record_before(const frnn_record *record, size_t index, size_t step, size_t row);

/* Runs the record's segment, from its mark: the same bits again. threads, interrupted and context are those of the pull. */
frnn_status frnn_run_again(const frnn_record *record, const frnn_pull *pull);

#endif
