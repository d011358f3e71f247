#!/bin/sh
# Builds the native library with the thread sanitizer and has many threads use it.
#
#    threads.sh [SECONDS]      without SECONDS: three, as run.sh does
set -eu
native=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC:-gcc} -std=c11 -g -O1 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -Werror -fsanitize=thread \
    -I"$native/include" -I"$native/src" -o "$work/threads" \
    "$native/tests/threads.c" "$native"/src/*/*.c -lpthread -ldl
mkdir "$work/disks"
(cd "$work/disks" && TSAN_OPTIONS=halt_on_error=1 "$work/threads" "${1:-3}")
echo "native threads: passed"
