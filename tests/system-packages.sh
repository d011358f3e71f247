#!/bin/sh
# Installs what the tests need and PyPI does not have, where this user may do so (root or
# passwordless sudo). Elsewhere it says what is missing and the tests that need it skip.
# Usage: system-packages.sh [PACKAGE ...]   (default: everything in the list below)
set -eu
packages=${*:-qemu-utils e2fsprogs clang libclang-rt-dev golang-go golang-github-vmware-govmomi-dev libvirt-clients postgresql}
missing=
for package in $packages; do
    dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then sudo=
elif sudo -n true 2>/dev/null; then sudo="sudo -n"
else echo "not installed, tests that need them will skip:$missing" >&2; exit 0
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $missing
