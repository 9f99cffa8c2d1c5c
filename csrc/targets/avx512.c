#include "../kernel.h"
#if FRNN_X86
#define TARGET avx512
#include "../kernel/prelude.h"
#include "../kernel/simd/avx512.h"
#include "../kernel/sweep.inc.h"
#endif
