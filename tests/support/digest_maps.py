"""Reads a digest map's file by itself, as a check on the class that keeps it."""

from __future__ import annotations

import os
from pathlib import Path

from vreplica.points.digestmap.file import (
    PAGE,
    RECORDS_AT,
    Header,
    page_digest,
    read_header,
    read_table,
    root_digest,
)


def header_of(path: Path) -> Header:
    """The header that counts."""
    fd = os.open(path, os.O_RDONLY)
    try:
        header = read_header(fd)
    finally:
        os.close(fd)
    assert header is not None, f"{path} has no header"
    return header


def is_intact(path: Path) -> bool:
    """Do all records match the page digests, and those the root?"""
    header = header_of(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        pages, digests = read_table(fd, header)
        whole = all(
            page_digest(os.pread(fd, PAGE, RECORDS_AT + page * PAGE)) == digest.tobytes()
            for page, digest in zip(pages.tolist(), digests, strict=True)
        )
    finally:
        os.close(fd)
    return whole and root_digest(header, pages, digests) == header.root
