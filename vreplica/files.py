"""Files that the library keeps for itself: replaced as a whole, copied with their holes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def replace_durably(path: Path, text: str) -> None:
    """Give the file this content. A crash leaves the old one or this one, and this one for
    certain once the call has returned. One writer at a time."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fsync(fresh)
    fresh.replace(path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Make a file's content durable, or the names in a folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file and keep its holes; what `target` was is gone."""
    with source.open("rb") as read, target.open("wb") as write:
        size = os.fstat(read.fileno()).st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole from here on
                break
            end = os.lseek(read.fileno(), at, os.SEEK_HOLE)
            while moved := os.copy_file_range(read.fileno(), write.fileno(), end - at, at, at):
                at += moved
            at = end
        write.truncate(size)
    shutil.copymode(source, target)
