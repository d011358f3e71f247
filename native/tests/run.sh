#!/bin/sh
# Builds the native library with sanitizers and runs its own tests.
set -eu
