"""Results of init, thumbprint and the lab."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from vreplica.cli.results.common import Bytes, Document


class Init(Document):
    """The job file that was written."""

    file: str


class Thumbprint(Document):
    host: str
    port: int
    sha256: str
    sha1: str


class LabSite(TypedDict):
    """The address of a vCenter of the lab, and its account."""

    name: str
    url: str
    host: str
    port: int
    user: str
    password: str
    sha256: str
    sha1: str
    datastores: list[str]
    running: bool


class LabSites(Document):
    sites: list[LabSite]


class LabStopped(Document):
    """`stopped`: false where it did not run."""

    stopped: bool


class LabRule(Document):
    """The rule that was added."""

    site: str
    rule: int


class LabNfcRule(Document):
    site: str
    host: str | None
    kind: str
    operation: str
    code: int
    count: int | None
    skip: int
    probability: float
    delay_s: float


class LabRules(Document):
    """The rules of a site, as the lab keeps them."""

    site: str
    rules: list[dict[str, Any]]
    nfc: list[dict[str, Any]]


class LabCleared(Document):
    """`cleared`: the rule's number; null: all."""

    site: str
    cleared: int | None


class LabVm(Document):
    """A VM of the lab, as the lab itself has it. `shutdown`, `tools`: settings of its guest."""

    site: str
    vm: str
    power: str
    tools: str
    shutdown: str
    shutdown_s: float


class LabWritten(Document):
    """The bytes that a guest wrote, and their SHA-256."""

    site: str
    vm: str
    disk: int
    offset_bytes: Bytes
    written_bytes: Bytes
    sha256: str


class LabConnected(Document):
    """`host`: null for the whole site."""

    site: str
    host: str | None
    connected: bool


class LabScenario(Document):
    """The file whose rules were loaded."""

    scenario: str
