#include "team.h"

enum { CLOSED = 1 << 30 }; /* added to `arrived`: threads that come later do not join */

size_t frnn_team_close(frnn_team *team, size_t others, double seconds)
{
    const double until = others ? frnn_seconds() + seconds : 0;
    for (size_t i = 0; atomic_load(&team->arrived) < others && frnn_seconds() < until; i++)
        frnn_pause(i);
    return atomic_fetch_add(&team->arrived, CLOSED);
}

void frnn_team_begin(frnn_team *team, size_t n, size_t forks)
{
    team->n = n;
    team->barrier.n = n;
    team->barrier.forks = forks;
    atomic_store_explicit(&team->begun, true, memory_order_release);
}

size_t frnn_team_join(frnn_team *team, size_t forks)
{
    const size_t before = atomic_fetch_add(&team->arrived, 1);
    for (size_t i = 0; before < CLOSED && !atomic_load_explicit(&team->begun, memory_order_acquire); i++) {
        if (frnn_forks() != forks)
            return 0;
        frnn_pause(i);
    }
    return before < CLOSED && team->n ? before + 1 : 0;
}
