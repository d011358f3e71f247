"""Base classes of errors: what failed, where, the state of both sides, what to do.

An error is a dataclass with fields, a message template over those fields, a remedy, and
`retryable` (True: the same call may succeed later):

    @dataclass(eq=False)
    class ChangeIdInvalid(CbtError):
        template = "changeId {change_id} is not valid any more: {reason}"
        remedy = "Read the whole disk once: `vreplica-sync run JOB --on-cbt-loss rescan`."
        change_id: str
        reason: str

Callers that know more than the place that raised add it on the way up:

    except VReplicaError as error:
        raise error.at(vm="web01", disk="Hard disk 1")

Passwords and tickets are never put into a field.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self


@dataclass
class Where:
    """The place of an error and the state of both sides; callers fill in what they know."""

    vm: str | None = None
    disk: str | None = None
    offset_bytes: int | None = None
    source_state: str | None = None
    replica_state: str | None = None
    next_run: str | None = None


@dataclass(eq=False)
class VReplicaError(Exception):
    """Base of everything that vreplica raises on purpose."""

    template: ClassVar[str] = "unspecified error"
    remedy: ClassVar[str] = ""
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.where = Where()
        self.in_place = True
        """False: the object that raised it cannot be used again; a retry needs a new one."""
        self.shrink_requests = False
        """True: asking for less at once may help (the host's NFC service is short of memory)."""
        super().__init__()

    def __str__(self) -> str:
        place = [p for p in (self.where.vm, self.where.disk) if p]
        if self.where.offset_bytes is not None:
            place.append(f"byte {self.where.offset_bytes}")
        return ": ".join([", ".join(place), self.message] if place else [self.message])

    @property
    def message(self) -> str:
        """The template with the fields filled in, without the place."""
        return self.template.format_map(self._values())

    def at(self, **where: Any) -> Self:
        """Fills in fields of `Where` that are not known yet, and returns the error."""
        for name, value in where.items():
            if getattr(self.where, name) is None:
                setattr(self.where, name, value)
        return self

    def explain(self) -> list[str]:
        """Returns the lines below the message: state of both sides, next run, what to do."""
        lines = [
            f"{label}: {value}"
            for label, value in (
                ("source", self.where.source_state),
                ("replica", self.where.replica_state),
                ("next run", self.where.next_run),
            )
            if value
        ]
        if self.remedy:
            lines.append("what to do: " + self.remedy.format_map(self._values()))
        if self.retryable:
            lines.append("a retry may help")
        return lines

    def advice(self) -> str:
        """Returns the lines of `explain` as sentences in one line."""
        lines = (line.removeprefix("what to do: ") for line in self.explain())
        return " ".join(f"{line[:1].upper()}{line[1:].removesuffix('.')}." for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns the error as a dictionary, for `--json` and logs."""
        where = {f.name: getattr(self.where, f.name) for f in fields(self.where)}
        return {
            "type": type(self).__name__,
            "message": self.message,
            "remedy": self.remedy.format_map(self._values()) or None,
            "exit_code": self.exit_code,
            "retryable": self.retryable,
            **{k: v for k, v in where.items() if v is not None},
        }

    def _values(self) -> dict[str, Any]:
        return self._fields()

    def _fields(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._fields(), self.where)


def _rebuild(cls: type[VReplicaError], values: dict[str, Any], where: Where) -> VReplicaError:
    error = cls(**values)
    error.where = where
    return error


# -- groups ---------------------------------------------------------------------------------


class ConfigError(VReplicaError):
    """Something that the user wrote cannot be used. Nothing was changed."""

    exit_code = 2


class PreflightError(VReplicaError):
    """The run was refused before anything was changed."""

    exit_code = 3


class DiskError(VReplicaError):
    """A virtual disk could not be opened, read or written."""

    exit_code = 4


class VSphereError(VReplicaError):
    """vCenter or an ESXi host refused, failed or could not be reached."""

    exit_code = 5


class CbtError(VSphereError):
    """Changed block tracking cannot answer."""


class ConsistencyError(VReplicaError):
    """The consistency level that was required cannot be reached."""

    exit_code = 6


class ReplicaError(VReplicaError):
    """The replica is not in the state that it should be in."""

    exit_code = 7


class VerifyError(VReplicaError):
    """Source and replica differ where they must be equal."""

    exit_code = 8


# -- disks ----------------------------------------------------------------------------------


_REPORT = "This is a fault of vreplica: report it with the log of --debug."


@dataclass(eq=False)
class OutOfRange(DiskError):
    template = "{length} bytes at {offset} reach past the disk's end at {capacity}"
    remedy = _REPORT
    offset: int
    length: int
    capacity: int


@dataclass(eq=False)
class Misaligned(DiskError):
    template = "offset {offset} or length {length} is not a multiple of {unit} bytes"
    remedy = _REPORT
    offset: int
    length: int
    unit: int


@dataclass(eq=False)
class DiskClosed(DiskError):
    template = "{name} is closed"
    remedy = _REPORT
    name: str


@dataclass(eq=False)
class ReadOnlyDisk(DiskError):
    template = "{name} was opened read-only"
    remedy = _REPORT
    name: str
