#!/bin/sh
# Times the native library beside pread and beside `qemu-img convert`, in one run.
# Usage: speed.sh [FOLDER with 6 GiB free]   (needs a C compiler and qemu-img)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
native=$here/../../native
work=$(mktemp -d -p "${1:-/tmp}")
trap 'rm -rf "$work"' EXIT
${CC:-cc} -std=c11 -O2 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I"$native/include" \
    -I"$native/src" \
    -o "$work/speed" "$here/speed.c" "$native"/src/*/*.c -lpthread -ldl
"$work/speed" "$work"
