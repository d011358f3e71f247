"""Files that the library keeps for itself: replaced as a whole, copied with their holes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def replace_durably(path: Path, text: str) -> None:
    """Give the file this content. A crash leaves the old one or this one, and this one for
    certain once the call has returned. One writer at a time. Nobody else may read it."""
    fresh = path.with_suffix(".new")
    write_private(fresh, text)
    fsync(fresh)
    fresh.replace(path)
    fsync(path.parent)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only this user may read, whatever it was before."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with (
        naming(path),
        os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        os.fchmod(fd, 0o600)
        file.write(text)


def open_private(path: Path) -> TextIO:
    """Opens a text file to read and append. One that is created may be read by this user only."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(fd, "a+", encoding="utf-8", errors="replace")


def create_private(path: Path) -> None:
    """Creates an empty file for this user only, where there is none: for SQLite, which would let
    others read it. Its -wal and -shm get the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the file in an OSError without one: those of write, fsync and close have none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def make_private_folder(path: Path) -> None:
    """Makes a folder, and the missing ones above it, that only this user may enter.

    A folder that is there stays as its owner has made it.
    """
    if path.is_dir():
        return
    make_private_folder(path.parent)
    path.mkdir(exist_ok=True, mode=0o700)


def fsync(path: Path) -> None:
    """Make a file's content durable, or the names in a folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with naming(path):
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
