#!/bin/sh
# Builds the native library with sanitizers and runs its own tests, in under a minute.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../build/native-test
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

cc=${CC:-gcc}
flags="-std=c11 -g -O1 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -Werror -I$here/../include"
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
libs="-lpthread -ldl"

# shellcheck disable=SC2086
$cc $flags $sanitize -I"$here/../src" -fvisibility=hidden -fPIC -shared -Wl,-soname,libvixDiskLib.so.8 \
    -o "$out/libvixDiskLib.so.8" "$here"/../src/*.c $libs
# The programs see the public header only.
for name in content refusals; do
    # shellcheck disable=SC2086
    $cc $flags $sanitize -o "$out/$name" "$here/$name.c" "$here/abi.c" "$out/libvixDiskLib.so.8" $libs
    mkdir "$work/$name"
    (cd "$work/$name" && LD_LIBRARY_PATH=$out "$out/$name")
    echo "native $name: passed"
done
