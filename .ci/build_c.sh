#!/usr/bin/env bash
# build_c.sh COMPILER FOLDER: builds tests/c/digest.c and tests/c/promises.c with the C sources, for the processor and
# system that the compiler is for, with the flags that setup.py gives; warnings are errors.
# COMPILER may have flags of its own: "gcc -g -fsanitize=thread". Run it from the top of the tree.
set -euo pipefail
compiler=$1 folder=$2
flags="-std=c11 -O2 -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror"
flags+=" -ffp-contract=off -fno-math-errno -Icsrc"
link="-lm -pthread"
defined=$($compiler -dM -E -x c /dev/null)
has() { grep -q "^#define $1 " <<<"$defined"; }

targets=scalar
if has __x86_64__; then targets="avx512 avx2 scalar"; fi
if has __aarch64__; then targets="neon scalar"; fi
if has _WIN32; then link+=" -static"; fi
mkdir -p "$folder"

compile() { # SOURCE OBJECT FLAGS..
    echo "$compiler $flags ${*:3} -c $1 -o $folder/$2.o"
}
commands() {
    local target bits isa source
    for target in $targets; do
        case $target in
        avx2) isa="-mavx2 -mfma" ;;
        avx512) isa="-mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma" ;;
        *) isa="" ;;
        esac
        # gcc for Windows aligns the stack to 16 bytes and stores wider registers there as if it were aligned to more
        # (GCC bug 54412): the assembler is told to write moves that need no alignment.
        if [ -n "$isa" ] && has _WIN32 && ! has __clang__; then isa+=" -Wa,-muse-unaligned-vector-move"; fi
        for bits in 32 64; do compile "csrc/targets/$target.c" "$target$bits" "-DFRNN_BITS=$bits $isa"; done
    done
    for source in csrc/*.c tests/c/digest.c tests/c/promises.c; do compile "$source" "$(basename "$source" .c)"; done
}
rm -f "$folder"/*.o
commands | xargs -P "$(nproc)" -d '\n' -n 1 sh -ec
shared=()
for object in "$folder"/*.o; do
    case $object in */digest.o | */promises.o) ;; *) shared+=("$object") ;; esac
done
for program in digest promises; do
    # shellcheck disable=SC2086 # flags
    $compiler "$folder/$program.o" "${shared[@]}" -o "$folder/$program$(if has _WIN32; then echo .exe; fi)" $link
done
