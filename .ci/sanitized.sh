#!/usr/bin/env bash
# sanitized.sh address|thread [PYTEST'S ARGUMENTS]: the tests under a sanitizer, in an environment where fastrnn was
# installed with FASTRNN_SANITIZE=address,undefined or FASTRNN_SANITIZE=thread.
set -euo pipefail
cd "$(dirname "$0")/.."
library() { gcc -print-file-name="lib$1.so"; }
export HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-few}
# Fails unless what is installed has the sanitizer in it: prove SYMBOL.
prove() {
    local extension
    extension=$(cd / && python -c 'import importlib.util as u, pathlib as p
print(*p.Path(u.find_spec("fastrnn").origin).parent.glob("_core*.so"))')
    if ! nm -D "$extension" | grep "$1" >/dev/null; then
        echo "$extension: expected the symbol $1: build it with FASTRNN_SANITIZE" >&2
        exit 1
    fi
}
case $1 in
address)
    prove __asan_init
    # No leaks are looked for, since Python itself leaves memory at its end. A limit on address space leaves no room for
    # the sanitizer's own memory. Some files of tests run no C that the others do not, and are left to other runs.
    LD_PRELOAD="$(library asan) $(library ubsan)"
    export LD_PRELOAD ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
    left=(--ignore=tests/system/test_faults.py --ignore=tests/system/test_image.py) # sanitizers of their own
    for name in activations batchers bench bench_training char_lm cli docs hostile_files min_char_rnn recurrent_policy \
        reference reference_gradients schedule simulate_arrivals trials; do
        left+=("--ignore=tests/core/test_$name.py")
    done
    exec pytest -q -n 2 -p no:cacheprovider -m "not address_space and not large" "${left[@]}" "${@:2}"
    ;;
thread)
    prove __tsan_init
    # No tests of forks: ThreadSanitizer does not support threads in the child of a process that had threads.
    LD_PRELOAD=$(library tsan)
    export LD_PRELOAD TSAN_OPTIONS="suppressions=$PWD/tests/c/tsan.supp"
    exec pytest -q -p no:cacheprovider tests/system/test_threads.py tests/core/test_plan.py \
        tests/core/test_rates.py::test_first_calls_of_many_threads "${@:2}"
    ;;
*) sed -n '2,/^set/s/^# //p' "$0" && exit 2 ;;
esac
