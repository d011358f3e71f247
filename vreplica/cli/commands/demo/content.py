"""Makes the content of the demo's disks and the writes of its guest. Deterministic for one
interpreter.

system  2 GiB  thin    |--[files: Python's library as tar][log: text]-----------[tail]|
data    1 GiB  thick   |[table: random pages]-------------[archive: text]-------[tail]|

then the guest     appends to the log, updates pages of the table, writes a new file, wipes
                   an old one, and saves a file again that has not changed
"""

from __future__ import annotations

import io
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vreplica.units import GIB, KIB, MIB

SYSTEM, DATA = "system", "data"
SYSTEM_CAPACITY, DATA_CAPACITY = 2 * GIB, 1 * GIB

FILES_AT, LOG_AT, NEW_FILE_AT = 1 * MIB, 512 * MIB, 1 * GIB
LOG_SIZE, APPENDED_SIZE, NEW_FILE_SIZE = 8 * MIB, 3 * MIB + 4 * KIB, 8 * MIB
TABLE_SIZE, ARCHIVE_AT, ARCHIVE_SIZE = 64 * MIB, 600 * MIB, 12 * MIB
PAGE, PAGES_UPDATED = 8 * KIB, 200
TAIL = 1 * MIB
OLD_FILE_AT, OLD_FILE_SIZE = ARCHIVE_AT + 4 * MIB, 6 * MIB
SAVED_AGAIN_SIZE = 4 * MIB

_SEED = 20_04_2011


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes at a place of one disk. `what`: the meaning of the bytes to the guest."""

    disk: str
    offset: int
    data: bytes
    what: str


def before() -> Iterator[Write]:
    """The content that the VM starts with."""
    random = np.random.Generator(np.random.PCG64(_SEED))
    yield Write(SYSTEM, FILES_AT, python_library(), "files")
    yield Write(SYSTEM, LOG_AT, log_text(0, LOG_SIZE), "log")
    yield Write(SYSTEM, SYSTEM_CAPACITY - TAIL, random.bytes(TAIL), "tail")
    yield Write(DATA, 0, table(), "table")
    yield Write(DATA, ARCHIVE_AT, log_text(LOG_SIZE, ARCHIVE_SIZE), "archive")
    yield Write(DATA, DATA_CAPACITY - TAIL, random.bytes(TAIL), "tail")


def changes() -> Iterator[Write]:
    """The writes of the guest between the two runs."""
    random = np.random.Generator(np.random.PCG64(_SEED + 1))
    appended = log_text(LOG_SIZE + ARCHIVE_SIZE, APPENDED_SIZE)
    yield Write(SYSTEM, LOG_AT + LOG_SIZE, appended, "lines appended to a log")
    yield Write(SYSTEM, NEW_FILE_AT, random.bytes(NEW_FILE_SIZE), "a new file")
    pages = random.choice(TABLE_SIZE // PAGE, PAGES_UPDATED, replace=False)
    for page in sorted(pages.tolist()):
        yield Write(DATA, page * PAGE, random.bytes(PAGE), "pages of a table updated")
    yield Write(DATA, OLD_FILE_AT, bytes(OLD_FILE_SIZE), "an old file wiped")
    again = log_text(LOG_SIZE, SAVED_AGAIN_SIZE)
    yield Write(DATA, ARCHIVE_AT, again, "a file saved again, unchanged")


def python_library() -> bytes:
    """The running interpreter's standard library, source files only, as a tar archive."""
    folder = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in sorted(folder.rglob("*.py")):
            name = file.relative_to(folder)
            if left_out.isdisjoint(name.parts) and file.is_file():
                data = file.read_bytes()
                entry = tarfile.TarInfo(str(name))
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def table() -> bytes:
    """The pages of a database: random, so that nothing can be compressed or found twice."""
    return np.random.Generator(np.random.PCG64(_SEED + 2)).bytes(TABLE_SIZE)


def log_text(start: int, size: int) -> bytes:
    """`size` bytes of an endless log, from byte `start` on. Lines of 64 bytes."""
    first, last = start // 64, -(-(start + size) // 64)
    lines = (
        f"{number:010} node{number % 7} worker[{number % 97:02}] done in {number % 1009:4} ms, "
        f"{'ok' if number % 31 else 'retried'}".ljust(63)
        + "\n"
        for number in range(first, last)
    )
    text = "".join(lines).encode("ascii")
    return text[start - first * 64 :][:size]
