/* How fast this machine is, as far as the plan asks: measured when threads are first worth a thought, or set. */
#ifndef FRNN_RATES_H
#define FRNN_RATES_H

#include "kernel.h"

typedef struct frnn_rates {
    double multiplies;   /* a second in each lane of a vector, in tiles of many rows */
    double near_bytes;   /* of weights that are read from L2 in a second */
    double far_bytes;    /* of weights that are read from beyond L2 in a second */
    double cell_seconds; /* of the epilogue of a block of units with four gates */
    double meet_seconds; /* of two threads at a barrier */
    double wake_seconds; /* until a sleeping worker runs */
} frnn_rates;

/* What is known of the machine: what was set, else what was measured with these kernels, else a guess. */
frnn_rates frnn_rates_known(const frnn_kernels *kernels);

/* The same, measured now where that was not done: it takes some milliseconds, once in a process. Where another thread
 * measures just now it answers what is known. */
frnn_rates frnn_rates_measured(const frnn_kernels *kernels);

/* The wake_seconds of the next call: what was found lately, if these rates were not set. */
double frnn_rates_wake(const frnn_rates *rates);

/* From now on these are known, of all kernels but scalar's, which are not measured either. NULL: none was set. */
void frnn_rates_set(const frnn_rates *rates);
bool frnn_rates_are_set(void);

#endif
