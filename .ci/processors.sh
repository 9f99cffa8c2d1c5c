#!/usr/bin/env bash
# processors.sh FOLDER [PART..]: random layers through the C interface (tests/c) under other compilers, processors and
# systems, to the bits of tests/c/digest.txt. Without parts, all of them:
#   tsan        ThreadSanitizer under random plans
#   gcc clang   for this processor, each target of FASTRNN_EXPECT_TARGETS
#   arm         64-bit Arm, with a cross compiler and an emulator
#   some_arm    the same, a third of its layers: not among all of them
#   windows     with a cross compiler, under Wine
#   older       x86 processors without AVX-512 and without AVX2, emulated: which targets are found, and their bits
#   valgrind    memory that is read before it is written, or lost
#   refused     what cannot give the bits is refused by the compiler, with the reason
# It builds in FOLDER and leaves it there. Debian's packages are installed where they are missing.
set -euo pipefail
work=$1
shift
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
# shellcheck source=.ci/functions.sh
. .ci/functions.sh
mkdir -p "$work"
expected=${FASTRNN_EXPECT_TARGETS:?the targets of this processor, as avx2,scalar}
IFS=, read -ra named <<<"$expected"

build() { # COMPILER NAME: once
    if [ -e "$work/$2/built" ]; then return; fi
    .ci/build_c.sh "$1" "$work/$2"
    touch "$work/$2/built"
}
# Prints what a command prints, and fails unless it is "TARGET DIGEST" for each of these targets: bits DIGEST TARGETS COMMAND..
bits() {
    local digest=$1 targets=$2
    "${@:3}" | tr -d '\r' | tee "$work/bits"
    diff "$work/bits" <(tr , '\n' <<<"$targets" | sed "s/\$/ $digest/")
}
whole=$(<tests/c/digest.txt)

part_gcc() {
    build gcc gcc
    bits "$whole" "$expected" "$work/gcc/digest" "${named[@]}"
    "$work/gcc/promises"
}

part_tsan() {
    build "gcc -g -fsanitize=thread" tsan
    bits "$whole" "$expected" "$work/tsan/digest" "${named[@]}"
}

part_clang() {
    need clang clang
    build clang clang
    bits "$whole" "$expected" "$work/clang/digest" "${named[@]}"
    "$work/clang/promises" --seed "$RANDOM"
}

build_arm() {
    need gcc-aarch64-linux-gnu aarch64-linux-gnu-gcc
    need libc6-dev-arm64-cross /usr/aarch64-linux-gnu/include/stdio.h
    need qemu-user qemu-aarch64
    build "aarch64-linux-gnu-gcc -static" arm
}

part_arm() {
    build_arm
    bits "$whole" neon_dotprod,neon,scalar qemu-aarch64 "$work/arm/digest"
    qemu-aarch64 "$work/arm/promises" --layers 6 neon neon_dotprod
}

part_some_arm() {
    build gcc gcc
    build_arm
    local layers=40 some
    some=$("$work/gcc/digest" --layers $layers scalar | cut -d' ' -f2)
    bits "$some" neon_dotprod,neon,scalar qemu-aarch64 "$work/arm/digest" --layers $layers
    qemu-aarch64 "$work/arm/promises" --layers 4 neon neon_dotprod
}

part_windows() {
    need gcc-mingw-w64-x86-64 x86_64-w64-mingw32-gcc
    need wine64 /usr/lib/wine/wine64
    build x86_64-w64-mingw32-gcc windows
    if objdump -d --no-show-raw-insn "$work"/windows/avx*.o | grep -E 'vmov(ap[sd]|dqa(32|64)?) .*\('; then
        echo "a move that needs an alignment that Windows does not give the stack" >&2
        return 1
    fi
    export WINEPREFIX=$work/wine WINEDEBUG=-all
    bits "$whole" "$expected" /usr/lib/wine/wine64 "$work/windows/digest.exe" "${named[@]}"
    /usr/lib/wine/wine64 "$work/windows/promises.exe" --layers 12
    /usr/lib/wine/wineserver64 -k || true
}

# Emulation takes its time: few layers, compared with what this processor makes of the same.
part_older() {
    need qemu-user qemu-x86_64
    build gcc gcc
    local layers=4 some processor
    some=$("$work/gcc/digest" --layers $layers scalar | cut -d' ' -f2)
    declare -A has=(
        [Nehalem]=scalar            # no AVX
        [SandyBridge]=scalar        # AVX, but neither AVX2 nor fused multiply-add
        ["Haswell,-fma"]=scalar     # AVX2 alone
        ["Haswell,-f16c"]=scalar    # all but the widening of halves
        ["Haswell,-xsave"]=scalar   # AVX2, but a system that does not keep its registers
        [Haswell]="avx2,scalar"     # the emulator has no AVX-512
    )
    for processor in "${!has[@]}"; do
        echo "$processor:"
        bits "$some" "${has[$processor]}" qemu-x86_64 -cpu "$processor" "$work/gcc/digest" --layers $layers 2>/dev/null
    done
    qemu-x86_64 -cpu Nehalem "$work/gcc/promises" --layers 3
}

# Without assertions: with them scratch is filled before it is used. It has no floating-point mode but the rounding.
part_valgrind() {
    need valgrind valgrind
    build "gcc -g -DNDEBUG" valgrind
    local command=(valgrind -q --error-exitcode=1 --leak-check=full --errors-for-leak-kinds="definite,possible")
    command+=(--suppressions=tests/c/valgrind.supp)
    "${command[@]}" "$work/valgrind/promises" --no-mode --layers 6
    "${command[@]}" "$work/valgrind/digest" --layers 3
}

refuse() { # REASON COMPILER.. FLAGS..: every source, for its own part
    local source
    for source in csrc/*.c csrc/targets/scalar.c; do
        if "${@:2}" -std=c11 -DFRNN_BITS=32 -Icsrc -fsyntax-only "$source" >"$work/refused" 2>&1 ||
            ! grep -q "error: .*$1" "$work/refused"; then
            echo "$source is not refused by ${*:2} for: $1" >&2
            return 1
        fi
    done
    echo "refused: $1"
}

refuse_stage() { # REASON STAGE: what is added to cells.def
    rm -rf "$work/csrc" && cp -r csrc "$work/csrc"
    sed -i "s/^FRNN_STAGE(RNN,.*/&\nFRNN_STAGE($2)/" "$work/csrc/cells.def"
    if gcc -std=c11 -DFRNN_BITS=32 -fsyntax-only "$work/csrc/cell.c" >"$work/refused" 2>&1 &&
        gcc -std=c11 -DFRNN_BITS=32 -fsyntax-only "$work/csrc/targets/scalar.c" >"$work/refused" 2>&1 ||
        ! grep -q "error: .*$1" "$work/refused"; then
        echo "a stage of $2 is not refused for: $1" >&2
        return 1
    fi
    echo "refused: $2: $1"
}

part_refused() {
    refuse_stage "as many gates as a tile has columns" "MANY, 0, 5, 5, 0"
    refuse_stage "one sum of W x and U h, or one of each" "WIDE, 0, 4, 9, 0"
    need gcc-s390x-linux-gnu s390x-linux-gnu-gcc
    need libc6-dev-s390x-cross /usr/s390x-linux-gnu/include/stdio.h
    refuse "little-endian processor" s390x-linux-gnu-gcc
    refuse "without -ffast-math" gcc -ffast-math
    refuse "without -ffast-math" gcc -fno-signed-zeros
    refuse "operands' own precision" gcc -mfpmath=387
    refuse "without -fsingle-precision-constant" gcc -fsingle-precision-constant
}

if [ $# = 0 ]; then set -- gcc clang tsan arm windows older valgrind refused; fi
for part in "$@"; do
    step "C library: $part"
    "part_$part"
done
