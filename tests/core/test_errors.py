"""Every error says what to do, and fills its texts from its own fields."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import fields
from string import Formatter

import pytest

import vreplica
from vreplica.errors import VReplicaError

NOTHING_TO_DO = {
    "Cancelled",  # the user asked for it
    "JobFileInvalid",  # each problem in it has its own advice
    "LabRefused",  # the reason says it
    "PreflightFailed",  # each problem in it has its own advice
}


def subclasses(base: type[VReplicaError]) -> Iterator[type[VReplicaError]]:
    for cls in base.__subclasses__():
        yield cls
        yield from subclasses(cls)


def error_classes() -> list[type[VReplicaError]]:
    """All error classes of the package that are raised, not only inherited from."""
    for module in pkgutil.walk_packages(vreplica.__path__, "vreplica."):
        if module.name.endswith(".errors") or module.name in ("vreplica.disk_errors",):
            importlib.import_module(module.name)
    found = {cls for cls in subclasses(VReplicaError) if cls.__module__.startswith("vreplica.")}
    raised = [cls for cls in found if cls.template != VReplicaError.template]
    return sorted(raised, key=lambda cls: (cls.__module__, cls.__name__))


CLASSES = error_classes()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_an_error_says_what_to_do(cls: type[VReplicaError]) -> None:
    assert cls.remedy or cls.__name__ in NOTHING_TO_DO


def names_in(text: str) -> set[str]:
    """Names of the fields that a text shows, as `where` in `{where.vm}`."""
    return {name.partition(".")[0] for _, name, _, _ in Formatter().parse(text) if name}


def overrides(cls: type[VReplicaError], name: str) -> bool:
    return any(name in vars(base) for base in cls.__mro__ if base not in VReplicaError.__mro__)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_an_error_fills_its_texts_from_its_fields(cls: type[VReplicaError]) -> None:
    own = {field.name for field in fields(cls)}
    more = overrides(cls, "_values")  # values that it computes
    assert more or names_in(cls.remedy) <= own
    assert more or names_in(cls.template) <= own or overrides(cls, "message")
