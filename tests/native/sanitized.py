"""Builds programs of native/tests with parts of the native library, mostly under a sanitizer."""

from __future__ import annotations

import subprocess
from pathlib import Path

NATIVE = Path(__file__).parents[2] / "native"
FLAGS = (
    "-std=c11 -g -O1 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -Werror "
    f"-I{NATIVE}/include -I{NATIVE}/src"
).split()


def build(program: Path, source: str, *parts: str, sanitizer: str = "address,undefined") -> Path:
    """`source`: a file of native/tests. `parts`: folders of native/src. Returns the program.

    `sanitizer`: "" for none.
    """
    sources = [NATIVE / "tests" / source]
    for part in parts:
        sources += sorted((NATIVE / "src" / part).glob("*.c"))
    flags = [*FLAGS, *([f"-fsanitize={sanitizer}"] if sanitizer else [])]
    libraries = ["-lpthread", "-ldl", "-Wl,-z,now"]  # as native/CMakeLists.txt
    subprocess.run(["gcc", *flags, "-o", program, *sources, *libraries], check=True)
    return program
