#!/usr/bin/env bash
# run.sh SECONDS [run] [files] [onnx]: fuzzes for so long each, two at a time, and prints one line for each. It needs
# clang with libFuzzer (CC) and a Python that has fastrnn, onnx, safetensors and atheris (PYTHON). It fails at the first
# finding, and names the file that shows it again; the head of each harness says how.
# GROWN=FOLDER keeps what the corpus has grown to: GROWN/run and so on.
set -euo pipefail
seconds=${1:?expected a number of seconds}
shift
harnesses=("$@")
if [ $# = 0 ]; then harnesses=(run files onnx); fi
here=$(cd "$(dirname "$0")" && pwd)
csrc=${CSRC:-$here/../../csrc}
compiler=${CC:-clang} python=${PYTHON:-python}
work=$(mktemp -d) found=$(mktemp -d)
declare -A name_of=()
finish() {
    local status=$?
    for pid in "${!name_of[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
    rmdir "$found" 2>/dev/null || true
    exit "$status"
}
trap finish EXIT

# Sources get all sanitizers and coverage; kernels lack undefined, and the harness coverage. Kernels are unrolled by
# pragmas, which takes minutes with any sanitizer: so the pragmas are taken away.
flags_of() { sed -n "s/^$1 = *//p" "$csrc/targets.mk"; }
build() {
    local flags
    flags="-std=gnu11 -g -UNDEBUG $(flags_of exact) -fno-sanitize-recover=all -I$csrc"
    local covered="-O1 -fsanitize=fuzzer-no-link -fno-sanitize-coverage=trace-cmp,indirect-calls"
    local checked="-fsanitize=address,undefined,float-cast-overflow" target bits isa source
    for target in $(flags_of "__$(uname -m)__") scalar; do
        isa=$(flags_of "$target")
        for bits in 32 64; do
            echo "$flags $covered -fsanitize=address -Wno-builtin-macro-redefined -D_Pragma(x)= $isa -DFRNN_BITS=$bits" \
                "-c $csrc/targets/$target.c -o $work/$target$bits.o"
        done
    done >"$work/commands"
    for source in "$csrc"/*.c; do
        echo "$flags $covered $checked -c $source -o $work/$(basename "$source" .c).o"
    done >>"$work/commands"
    echo "$flags -I$here/../c -O2 -frounding-math -Wall -Wextra -Werror $checked -c $here/fuzz_run.c -o $work/fuzz_run.o" >>"$work/commands"
    xargs -P 2 -L 1 "$compiler" <"$work/commands"
    "$compiler" $checked -fsanitize=fuzzer -Wl,--wrap=malloc,--wrap=free,--wrap=frnn_seconds "$work"/*.o \
        -o "$work/fuzz_run" -lm -pthread
}

fuzz() { # NAME
    local command=("$python" "$here/fuzz_$1.py" -rss_limit_mb=1500 -max_len=8192) corpus=${GROWN:-$work}/$1
    # How often a loop runs depends on when threads meet: counters would fill the corpus with that.
    if [ "$1" = run ]; then command=("$work/fuzz_run" -max_len=240 -len_control=0 -use_counters=0); fi
    mkdir -p "$corpus"
    export TMPDIR=$work ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=16
    exec "${command[@]}" -entropic=0 -max_total_time="$seconds" -timeout=60 -print_final_stats=1 \
        -artifact_prefix="$found/$1-" "$corpus" "$here/corpus/$1" >"$work/$1.log" 2>&1
}

report() { # NAME
    number() { grep -o "$1 *[0-9]*" "$work/$2.log" | tail -1 | grep -o '[0-9]*$' || echo '?'; }
    echo "$1: $(number 'executed_units:' "$1") executions, $(number 'exec_per_sec:' "$1") a second," \
        "coverage $(number 'cov:' "$1"), at most $(number 'rss_mb:' "$1") MB"
}

await_one() {
    local status=0 pid
    wait -n -p pid "${!name_of[@]}" || status=$?
    local name=${name_of[$pid]}
    unset "name_of[$pid]"
    report "$name"
    if [ "$status" != 0 ]; then
        tail -n 60 "$work/$name.log" >&2
        echo "$name: a finding, in $found" >&2
        ls "$found" >&2
        exit 1
    fi
}

for name in "${harnesses[@]}"; do
    case $name in
    run) build ;;
    files | onnx) ;;
    *) echo "expected run, files or onnx, got $name" >&2 && exit 2 ;;
    esac
done
for name in "${harnesses[@]}"; do
    while [ ${#name_of[@]} = 2 ]; do await_one; done
    fuzz "$name" &
    name_of[$!]=$name
done
while [ ${#name_of[@]} -gt 0 ]; do await_one; done
