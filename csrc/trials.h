/* What calls took in the plan's ways to run them, so that of a kind of call the fastest way is learnt. */
#ifndef FRNN_TRIALS_H
#define FRNN_TRIALS_H

#include "plan.h"

/* Calls of a kind have params of the same sizes, about as many steps and rows, and as many threads. */
typedef struct frnn_trial_kind frnn_trial_kind;

/* A call that is timed, or not: kind NULL. */
typedef struct frnn_trial {
    frnn_trial_kind *kind;
    uint64_t key;    /* of the kind, which may have made room for another one when the call ends */
    size_t way;      /* that the kind knows */
    double expected; /* seconds, by the machine's rates alone */
    double begun;
} frnn_trial;

/* How to run the next call: now and then in a way whose time is wanted, else in the fastest. Lengths of rows count as that many
 * steps of all on average. Where rates were set, nothing is tried: it is frnn_make_plan. */
frnn_plan frnn_trials_next(const frnn_params *params, const frnn_call *call, bool taped, frnn_trial *trial);

/* The call ends now. */
void frnn_trials_end(const frnn_trial *trial);

/* The way that is the fastest as far as is known, to look at: of a call without lengths and tape. */
frnn_plan frnn_trials_best(const frnn_params *params, size_t T, size_t B, size_t threads);

#endif
