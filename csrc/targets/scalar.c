#include "../target.h"
#define TARGET scalar
#include "../kernel/prelude.h"
#include "../kernel/simd/scalar.h"
#include "../kernel/kernel.inc.h"
