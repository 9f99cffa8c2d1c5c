#!/usr/bin/env bash
# digest.sh COMPILER FOLDER TARGET...: builds tests/c/digest.c with the C sources, warnings being errors, and prints
# "TARGET DIGEST" for each target, run where this machine can run it (Arm's under qemu).
set -euo pipefail
compiler=$1 folder=$2
shift 2
flags="-std=c11 -O2 -Wall -Wextra -Werror -ffp-contract=off -Icsrc"
mkdir -p "$folder"
objects=()
for source in csrc/targets/*.c; do
    name=$(basename "$source" .c)
    case $name in
    avx2) isa="-mavx2 -mfma" ;;
    avx512) isa="-mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma" ;;
    *) isa="" ;;
    esac
    # Only the sources that the compiler's processor has anything to say in.
    if [[ $compiler == aarch64* ]]; then
        case $name in avx*) continue ;; esac
    elif [ "$name" = neon ]; then
        continue
    fi
    for bits in 32 64; do
        $compiler $flags $isa -DFRNN_BITS=$bits -c "$source" -o "$folder/$name$bits.o"
        objects+=("$folder/$name$bits.o")
    done
done
$compiler $flags -Wconversion tests/c/digest.c csrc/*.c "${objects[@]}" -o "$folder/digest" -lm -pthread
run=""
if [[ $compiler == aarch64* ]]; then run=qemu-aarch64; fi
for target in "$@"; do
    # Not every x86 processor has AVX-512; the tests of the package fail where one should be and is not.
    $run "$folder/digest" "$target"
done
