#include "../kernel.h"
#if FRNN_X86
#define TARGET avx2
#include "../kernel/prelude.h"
#include "../kernel/simd/avx2.h"
#include "../kernel/sweep.inc.h"
#endif
