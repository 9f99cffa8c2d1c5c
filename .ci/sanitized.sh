#!/usr/bin/env bash
# sanitized.sh address|thread [PYTEST'S ARGUMENTS]: the tests under a sanitizer, in an environment where fastrnn was
# installed with FASTRNN_SANITIZE=address,undefined or FASTRNN_SANITIZE=thread.
set -euo pipefail
cd "$(dirname "$0")/.."
library() { gcc -print-file-name="lib$1.so"; }
export HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-few}
# Whether what is installed has the sanitizer in it.
proof() {
    nm -D "$(cd / && python -c 'import importlib.util as u, pathlib as p
print(*p.Path(u.find_spec("fastrnn").origin).parent.glob("_core*.so"))')" | grep "$1" >/dev/null
}
case $1 in
address)
    proof __asan_init
    # Python itself leaves memory at its end; a limit on address space leaves no room for the sanitizer's own. What has no
    # C of its own to run is left to other runs: the example, the documents, the benchmark, the reference, the command
    # line, hostile files.
    export LD_PRELOAD="$(library asan) $(library ubsan)"
    export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
    exec pytest -q -p no:cacheprovider -m "not address_space" --ignore=tests/core/test_bench.py \
        --ignore=tests/core/test_char_lm.py --ignore=tests/core/test_cli.py --ignore=tests/core/test_docs.py \
        --ignore=tests/core/test_hostile_files.py --ignore=tests/core/test_reference.py "${@:2}"
    ;;
thread)
    proof __tsan_init
    # It knows nothing of threads of a process that was forked from one with threads: no tests of forks.
    export LD_PRELOAD="$(library tsan)" TSAN_OPTIONS="suppressions=$PWD/tests/c/tsan.supp"
    exec pytest -q -p no:cacheprovider tests/system/test_threads.py tests/core/test_plan.py "${@:2}"
    ;;
*) sed -n '2,/^set/s/^# //p' "$0" && exit 2 ;;
esac
