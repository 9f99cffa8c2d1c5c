/* Threads that go through one piece of work side by side, each with its share, and meet on the way. */
#ifndef FRNN_TEAM_H
#define FRNN_TEAM_H

#include "threads.h"

typedef struct frnn_team {
    _Alignas(64) atomic_size_t arrived;
    atomic_bool begun;
    size_t n; /* its threads, once it has begun; 0: the work can't be done */
    frnn_barrier barrier;
} frnn_team;

/* Of the first thread: waits at most so many seconds for so many others, and closes the team. Answers how many came. */
size_t frnn_team_close(frnn_team *team, size_t others, double seconds);

/* Of the first thread: lets a team of n threads begin, which are of the process that was forked so often (frnn_forks). */
void frnn_team_begin(frnn_team *team, size_t n, size_t forks);

/* Of another thread: answers its index in the team that has begun, or 0 if it came too late or is not needed. */
size_t frnn_team_join(frnn_team *team, size_t forks);

/* What each thread of the team wrote before it, all of them read after it. */
static inline void frnn_team_meet(frnn_team *team) { frnn_barrier_wait(&team->barrier); }

#endif
