#include "../target.h"
#if FRNN_ARM64
#define TARGET neon
#include "../kernel/prelude.h"
#include "../kernel/simd/neon.h"
#include "../kernel/kernel.inc.h"
#endif
