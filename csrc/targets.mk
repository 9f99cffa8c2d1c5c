# The compiler's flags, as NAME = VALUE: setup.py, .ci/build_c.sh and tests/fuzz/run.sh read them here.

# Of every source. Bits are promised: products and sums are fused only where the text says so.
exact = -ffp-contract=off -fno-math-errno

# The targets of a processor, by the name that compilers define for it; scalar is for all.
__x86_64__ = avx512 avx2
__aarch64__ = neon

# Of a target's kernels.
avx512 = -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma
avx2 = -mavx2 -mfma -mf16c
neon =
scalar =

# gcc for Windows aligns the stack to 16 bytes and stores wider registers there as if it were aligned to more (GCC bug
# 54412): the assembler is told to write moves that need no alignment. Of every target's kernels but scalar's.
windows_gcc = -Wa,-muse-unaligned-vector-move
