#include "kernel.h"

#define FRNN_TARGET(name, needs) extern const frnn_kernels frnn_##name##_32, frnn_##name##_64;
#include "targets.def"

static const frnn_target targets[] = {
#define FRNN_TARGET(name, needs) {#name, #name, needs, false, {&frnn_##name##_32, &frnn_##name##_64}},
#define FRNN_DOTS(name, base, needs) {#name, #base, needs, true, {&frnn_##base##_32, &frnn_##base##_64}},
#include "targets.def"
};

size_t frnn_target_count(void) { return sizeof targets / sizeof *targets; }

const frnn_target *frnn_target_at(size_t index)
{
    assert(index < frnn_target_count());
    return &targets[index];
}

const char *frnn_target_name(const frnn_target *target) { return target->name; }

const char *frnn_target_base(const frnn_target *target) { return target->base; }

bool frnn_target_usable(const frnn_target *target)
{
    return (frnn_cpu_features() & target->features) == target->features;
}
