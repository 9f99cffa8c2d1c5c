#include "progress.h"

#define ASK_SECONDS 0.03 /* how often the caller is asked whether to go on: asking may take a lock */

void frnn_give_up(frnn_progress *progress, frnn_status why)
{
    int expected = FRNN_OK;
    atomic_compare_exchange_strong(&progress->status, &expected, (int)why);
}

void frnn_ask(frnn_progress *progress)
{
    if (!progress->interrupted)
        return;
    frnn_leave_float_mode(progress->mode);
    const bool stop = progress->interrupted(progress->context);
    progress->mode = frnn_enter_float_mode();
    if (stop)
        frnn_give_up(progress, FRNN_INTERRUPTED);
}

bool frnn_goes_on(frnn_progress *progress, bool asks, bool alone)
{
    if (atomic_load_explicit(&progress->status, memory_order_relaxed) != FRNN_OK)
        return false;
    const double now = asks ? frnn_seconds() : 0;
    if (asks && progress->ask_at == 0)
        progress->ask_at = now + ASK_SECONDS;
    if (asks && now >= progress->ask_at) {
        frnn_ask(progress);
        progress->ask_at = frnn_seconds() + ASK_SECONDS;
    }
    if (!alone && frnn_forks() != progress->forks)
        frnn_give_up(progress, FRNN_FORKED);
    return atomic_load_explicit(&progress->status, memory_order_relaxed) == FRNN_OK;
}
