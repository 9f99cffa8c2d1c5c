#include "../kernel.h"
#define TARGET scalar
#include "../kernel/prelude.h"
#include "../kernel/simd/scalar.h"
#include "../kernel/sweep.inc.h"
