#include "../kernel.h"
#if FRNN_ARM64
#define TARGET neon
#include "../kernel/prelude.h"
#include "../kernel/simd/neon.h"
#include "../kernel/sweep.inc.h"
#endif
