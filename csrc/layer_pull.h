/* One layer on its way back, in all directions: chunks of steps, and jobs for threads. */
#ifndef FRNN_LAYER_PULL_H
#define FRNN_LAYER_PULL_H

#include "back.h"

typedef struct frnn_layer_pull {
    frnn_back directions[2];
    size_t D, threads;
    size_t parts, slices; /* of the batch, and of the weights' gradients */
    size_t sharers;       /* threads that share the units of a part, at most */
    size_t sources;       /* tasks of gradients of what was read */
    double patience;      /* seconds to wait for threads that are to share the units */
    frnn_team *teams;     /* one a part and direction */
    size_t begin, end;    /* of the chunk */
    bool asks;            /* the calling thread, whether to go on */
    size_t steps, rows;   /* frnn_back_thread */
    frnn_progress *progress;
    char *scratch; /* of outer products, one a thread, which takes every threads-th slice */
    size_t scratch_bytes;
    void *memory; /* frnn_pages_take */
} frnn_layer_pull;

/* Memory for a layer whose directions, parts, slices and threads are set; to be given back by frnn_layer_pull_free. */
bool frnn_layer_pull_allocate(frnn_layer_pull *layer);
void frnn_layer_pull_free(frnn_layer_pull *layer);

/* Before the last step. Without steps there is nothing more to do than what is done here. */
void frnn_layer_pull_begin(frnn_layer_pull *layer);

/* The steps of the record. */
void frnn_layer_pull_run(frnn_layer_pull *layer);

#endif
