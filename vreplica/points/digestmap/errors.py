"""Defines the errors of digest maps. None of them harms the replica: a map can be rebuilt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vreplica.errors import ReplicaError


@dataclass(eq=False)
class DigestMapUnusable(ReplicaError):
    template = "the digest map {path} cannot be used: {reason}"
    remedy = "It is rebuilt by reading the replica; that takes time and changes nothing."
    path: str
    reason: str


@dataclass(eq=False)
class DigestMapBusy(ReplicaError):
    template = "the digest map {path} is in use by another process"
    remedy = "Wait for the other run of this job to end."
    retryable = True
    path: str


@dataclass(eq=False)
class DigestMapWriteFailed(ReplicaError):
    template = "cannot write {path}: {reason}"
    remedy = "Make room, or make the job's state directory writable; then start the job again."
    path: str
    reason: str


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses inside into an error that names this file."""
    try:
        yield
    except OSError as error:
        raise DigestMapWriteFailed(path=str(path), reason=str(error.strerror)) from error
