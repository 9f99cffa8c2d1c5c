#!/usr/bin/env bash
# c_library.sh FOLDER [CMAKE'S ARGUMENTS]: builds and installs the C library as docs/realtime.md says, then the example in
# C against what was installed, whose output must have the bits of Python. It needs cmake, and a python that has fastrnn.
set -euo pipefail
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
cmake -B "$folder/build" "${@:2}" >"$folder/log"
cmake --build "$folder/build" --parallel "$(nproc)" >>"$folder/log"
cmake --install "$folder/build" --prefix "$folder/installed" >>"$folder/log"

# Headers: fastrnn.h and what it includes.
diff <(cd "$folder/installed/include" && find . -type f | sort) <(printf './fastrnn/%s\n' cells.def fastrnn.h)

echo '#include <fastrnn.h>' | c++ -fsyntax-only -x c++ "-I$folder/installed/include/fastrnn" -

# A project that has the checkout in it.
mkdir -p "$folder/whole"
printf '%s\n' 'cmake_minimum_required(VERSION 3.20)' 'project(whole C)' "add_subdirectory($PWD fastrnn)" \
    'get_target_property(kind fastrnn::fastrnn TYPE)' >"$folder/whole/CMakeLists.txt"
{
    cmake -S "$folder/whole" -B "$folder/whole/build" "${@:2}"
    cmake -S examples/c -B "$folder/example" "-DCMAKE_PREFIX_PATH=$folder/installed" "${@:2}"
    cmake --build "$folder/example"
} >>"$folder/log"
python examples/c/amplifier.py write "$folder/sound"
"$folder/example/amplifier" "$folder/sound"
python examples/c/amplifier.py check "$folder/sound"
python tools/measure_realtime.py "$folder/installed" --hidden 32 --steps 1000 # finds the library by pkg-config
