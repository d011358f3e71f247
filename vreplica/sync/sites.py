"""Holds the sessions to both sites while a job is worked on."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from vreplica.sync.job import Job
from vreplica.vsphere.session import Session, connect


@dataclass(slots=True)
class Sites:
    """The two open sessions of a run; a context manager."""

    source: Session
    destination: Session
    _stack: ExitStack

    @classmethod
    def open(cls, job: Job) -> Sites:
        with ExitStack() as stack:
            source = stack.enter_context(connect(job.source))
            same = job.source == job.destination
            destination = source if same else stack.enter_context(connect(job.destination))
            return cls(source, destination, stack.pop_all())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
