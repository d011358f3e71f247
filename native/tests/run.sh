#!/bin/sh
# Builds the native library with sanitizers, runs its tests, replays the corpus of the fuzzers and, if
# clang is installed, fuzzes for a minute. Takes about two minutes.
set -eu
native=$(cd "$(dirname "$0")/.." && pwd)
out=$native/../build/native-test
work=$(mktemp -d)
memory=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d) # for tests that make hundreds of small disks
trap 'wait; rm -rf "$work" "$memory"' EXIT
rm -rf "$out"
mkdir -p "$out/gcc" "$out/clang"

flags="-std=c11 -g -O1 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -Werror -I$native/include -I$native/src"
sanitize="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
libs="-lpthread -ldl"
targets="descriptor disk sparse cowd sesparse operations soap authd_line nfc_frame nfc_fragment nfc_compressed"

# What the linker needs for a target: those that play a host replace the connection to it.
wraps() {
    case $1 in
    authd_line | nfc_*)
        for call in connect start_tls drop_tls read write writev error close; do
            printf ' -Wl,--wrap=vr_stream_%s' "$call"
        done
        printf ' %s' "$native/fuzz/fake_stream.c"
        ;;
    esac
}

# compile DIR COMPILER FLAG ...: compiles the library's objects, position independent, into DIR. The
# names of the .c files must differ, whatever their folder.
compile() {
    dir=$1 compiler=$2
    shift 2
    # shellcheck disable=SC2086
    (cd "$dir" && "$compiler" $flags "$@" -fvisibility=hidden -fPIC -c "$native"/src/*/*.c "$native/fuzz/harness.c")
}

# shellcheck disable=SC2086
compile "$out/gcc" "${CC:-gcc}" $sanitize
# shellcheck disable=SC2086
${CC:-gcc} $sanitize -shared -Wl,-soname,libvixDiskLib.so.8 -o "$out/libvixDiskLib.so.8" "$out"/gcc/*.o $libs

for name in content refusals keeping lab; do # these use the public header only
    # shellcheck disable=SC2086
    ${CC:-gcc} $flags $sanitize -o "$out/$name" "$native/tests/$name.c" "$native/tests/abi.c" \
        "$out/libvixDiskLib.so.8" $libs
    mkdir "$work/$name"
    (cd "$work/$name" && LD_LIBRARY_PATH=$out "$out/$name")
    echo "native $name: passed"
done

# shellcheck disable=SC2086
${CC:-gcc} $flags $sanitize -Wl,--wrap=sync_file_range,--wrap=pwritev64v2 -o "$out/storing" "$native/tests/storing.c" "$out"/gcc/*.o $libs
mkdir "$work/storing"
(cd "$work/storing" && "$out/storing")
echo "native storing: passed"

# shellcheck disable=SC2086
${CC:-gcc} $flags $sanitize -Wl,--wrap=pwritev64v2,--wrap=fdatasync,--wrap=fsync -o "$out/failing" "$native/tests/failing.c" "$out"/gcc/*.o $libs
mkdir "$work/failing"
(cd "$work/failing" && "$out/failing")
echo "native failing: passed"

# Hundreds of processes that die, in the background: without sanitizers, which take time to start.
# shellcheck disable=SC2086
${CC:-gcc} $flags \
    -Wl,--wrap=pwritev64v2,--wrap=ftruncate64,--wrap=fallocate64,--wrap=rename,--wrap=flock,--wrap=fdatasync \
    -o "$out/crash" "$native/tests/crash.c" "$native/tests/kill.c" "$native"/src/*/*.c $libs
(cd "$memory" && "$out/crash" >"$out/crash.log" 2>&1) &
crash=$!

sh "$native/tests/threads.sh" >"$out/threads.log" 2>&1 &
threads=$!

for name in $targets; do
    # shellcheck disable=SC2086,SC2046
    ${CC:-gcc} $flags $sanitize -o "$out/replay-$name" "$native/fuzz/replay.c" "$native/fuzz/$name.c" \
        $(wraps "$name") "$out"/gcc/*.o $libs
    VREPLICA_FUZZ_CONTENT=1 "$out/replay-$name" "$native/fuzz/corpus/$name"/*
done
echo "native corpus: passed"

finish() {
    wait "$crash" || { cat "$out/crash.log"; exit 1; }
    cat "$out/crash.log"
    echo "native crash: passed"
    wait "$threads" || { cat "$out/threads.log"; exit 1; }
    cat "$out/threads.log"
}

if ! command -v clang >/dev/null; then
    echo "native fuzzing: skipped, clang is not installed (Debian package clang)"
    finish
    exit 0
fi
# shellcheck disable=SC2086
compile "$out/clang" clang $sanitize -fsanitize=fuzzer-no-link
for name in $targets; do
    # shellcheck disable=SC2086,SC2046
    clang $flags $sanitize -fsanitize=fuzzer -o "$out/fuzz-$name" "$native/fuzz/$name.c" $(wraps "$name") \
        "$out"/clang/*.o $libs
    mkdir "$work/fuzz-$name"
    case $name in
    operations | soap | authd_line | nfc_*) seconds=10 ;;
    *) seconds=2 ;;
    esac
    (cd "$work" && VREPLICA_FUZZ_CONTENT=1 "$out/fuzz-$name" -max_total_time=$seconds -max_len=65536 -rss_limit_mb=2048 -verbosity=0 \
        "$work/fuzz-$name" "$native/fuzz/corpus/$name" >"$out/fuzz-$name.log" 2>&1) \
        || { cat "$out/fuzz-$name.log"; exit 1; }
done
echo "native fuzzing: passed"
finish
