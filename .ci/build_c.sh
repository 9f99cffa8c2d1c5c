#!/usr/bin/env bash
# build_c.sh COMPILER FOLDER: builds tests/c/digest.c and tests/c/promises.c with the C sources, for the processor and
# system that the compiler is for, with the flags that setup.py gives; warnings are errors.
# COMPILER may have flags of its own: "gcc -g -fsanitize=thread". Run it from the top of the tree.
set -euo pipefail
compiler=$1 folder=$2
flags_of() { sed -n "s/^$1 = *//p" csrc/targets.mk; }
flags="-std=c11 -O2 -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror"
flags+=" $(flags_of exact) -Icsrc"
link="-lm -pthread"
defined=$($compiler -dM -E -x c /dev/null)
has() { grep -q "^#define $1 " <<<"$defined"; }

targets=scalar
for processor in __x86_64__ __aarch64__; do
    if has "$processor"; then targets+=" $(flags_of "$processor")"; fi
done
if has _WIN32; then link+=" -static"; fi
mkdir -p "$folder"

# The header can follow complex.h, which has a macro I.
# shellcheck disable=SC2086 # flags are words
printf '#include <complex.h>\n#include "fastrnn.h"\n' | $compiler $flags -fsyntax-only -x c -

compile() { # SOURCE OBJECT FLAGS..
    echo "$compiler $flags ${*:3} -c $1 -o $folder/$2.o"
}
commands() {
    local target bits isa source
    for target in $targets; do
        isa=$(flags_of "$target")
        if [ "$target" != scalar ] && has _WIN32 && ! has __clang__; then isa+=" $(flags_of windows_gcc)"; fi
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
