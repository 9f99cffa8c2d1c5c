# shellcheck shell=bash
# What the scripts of this folder share. $top is the checkout, $work a folder that is removed at the end.

step() {
    printf '\n=== %s (%s s)\n' "$1" "$SECONDS"
}

# Begin a script that a change must pass: in a fresh clone of the checkout, $work/fastrnn, and with a fresh environment,
# $work/venv, first on the PATH. CI_KEEP=1 keeps $work.
begin() {
    top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    work=$(mktemp -d)
    trap finish EXIT
    export CI=true PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1
    unset FASTRNN_TARGET FASTRNN_NUM_THREADS FASTRNN_SANITIZE FASTRNN_WERROR PYTHONPATH
    FASTRNN_EXPECT_TARGETS=$(expected_targets)
    export FASTRNN_EXPECT_TARGETS
    step "a fresh clone and environment in $work; targets expected: $FASTRNN_EXPECT_TARGETS"
    need ccache /usr/lib/ccache/gcc # the extension is built several times, from the same text
    export CCACHE_DIR="${CCACHE_DIR:-$work/ccache}"
    PATH="/usr/lib/ccache:$PATH"
    git clone -q "$top" "$work/fastrnn"
    cd "$work/fastrnn" || exit 1
    python3 -m venv "$work/venv"
    PATH="$work/venv/bin:$PATH"
}

finish() {
    local status=$?
    if [ -z "${CI_KEEP:-}" ]; then rm -rf "$work" || true; fi
    if [ "$status" != 0 ]; then printf '\n=== %s failed (%s s)\n' "$0" "$SECONDS"; fi
    exit "$status"
}

# The targets that this processor must have, by what the system says of it: not by our own detection.
expected_targets() {
    local flags
    case $(uname -m) in
    x86_64)
        flags=$(grep -m1 '^flags' /proc/cpuinfo)
        if [[ $flags == *" avx512_vnni "* ]]; then echo -n "avx512_vnni,"; fi
        if [[ $flags == *" avx512f "* && $flags == *" avx512dq "* && $flags == *" avx512bw "* && $flags == *" avx512vl "* ]]; then
            echo -n "avx512,"
        fi
        if [[ $flags == *" avx_vnni "* ]]; then echo -n "avx2_vnni,"; fi
        if [[ $flags == *" avx2 "* && $flags == *" fma "* && $flags == *" f16c "* ]]; then echo -n "avx2,"; fi
        ;;
    aarch64)
        if grep -qm1 ' asimddp' /proc/cpuinfo; then echo -n "neon_dotprod,"; fi
        echo -n "neon,"
        ;;
    esac
    echo scalar
}

# A Python of this version, wherever it is kept: on the PATH, or among those of pyenv.
find_python() {
    local candidate
    candidate=$(type -P -a "python$1" | grep -v shims | head -n 1 || true)
    if [ -n "$candidate" ]; then
        echo "$candidate"
        return
    fi
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
    echo "python$1 is needed and was not found" >&2
    return 1
}

# Debian's package, where its proof (a program or a file) is missing: need PACKAGE PROOF. One script at a time installs.
need() {
    local package=$1 proof=$2 as_root=()
    if [ -e "$proof" ] || command -v "$proof" >/dev/null; then return; fi
    if [ "$(id -u)" != 0 ]; then as_root=(sudo); fi
    (
        flock 9
        if [ ! -f "$work/updated" ]; then
            "${as_root[@]}" apt-get update -qq
            touch "$work/updated"
        fi
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq "$package" >/dev/null
    ) 9>"${TMPDIR:-/tmp}/fastrnn-packages.lock"
}

# An environment, $work/NAME, with what is built from a clone of its own, of a commit or the newest:
# prepare NAME [@COMMIT] [VARIABLE=VALUE..] -- PACKAGE..
prepare() {
    local name=$1 settings=() commit=HEAD
    shift
    while [ "$1" != -- ]; do
        if [[ $1 == @* ]]; then commit=${1#@}; else settings+=("$1"); fi
        shift
    done
    shift
    git clone -q "$top" "$work/$name.source"
    git -C "$work/$name.source" checkout -q "$commit"
    python3 -m venv "$work/$name"
    (
        cd "$work/$name.source" || exit 1
        env "${settings[@]}" "$work/$name/bin/pip" install -q "$@"
    )
}
