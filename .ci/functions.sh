# What the scripts of this folder share. $top is the checkout, $work a folder that is removed at the end.

step() {
    printf '\n=== %s (%s s)\n' "$1" "$SECONDS"
}

# A Python of this version, wherever it is kept: on the PATH, or among those of pyenv.
find_python() {
    command -v "python$1" 2>/dev/null | grep -v shims && return
    local candidate
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        if [ -x "$candidate" ]; then echo "$candidate"; return; fi
    done
    echo "python$1 is needed and was not found" >&2
    return 1
}

# Debian's packages where they are missing and this user may install them: need PACKAGE PROOF.
need() {
    local package=$1 proof=$2
    if command -v "$proof" >/dev/null || [ -e "$proof" ]; then return; fi
    local as_root=
    if [ "$(id -u)" != 0 ]; then as_root=sudo; fi
    if [ ! -f "$work/updated" ]; then $as_root apt-get update -qq && touch "$work/updated"; fi
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null
}

# An environment with what is built from a clone of its own: prepare NAME SETTINGS PACKAGES..
prepare() {
    local name=$1 settings=$2
    git clone -q "$top" "$work/$name.source"
    python3 -m venv "$work/$name"
    (cd "$work/$name.source" && env $settings "$work/$name/bin/pip" install -q "${@:3}")
    touch "$work/$name.ready"
}
