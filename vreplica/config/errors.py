"""Errors of a job file, with file, line, key, reason and remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vreplica.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake in a job file. `key` is a dotted path, empty for the whole file."""

    line: int
    key: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}" if self.key else self.what


@dataclass(eq=False)
class JobFileInvalid(ConfigError):
    """All mistakes of one job file, in the order of its lines."""

    file: str
    problems: tuple[Problem, ...]

    @property
    def message(self) -> str:
        if len(self.problems) == 1:
            return f"{self.file}:{self.problems[0].line}: {self.problems[0]}"
        return f"{self.file} has {len(self.problems)} problems"

    def explain(self) -> list[str]:
        if len(self.problems) == 1:
            return [f"what to do: {self.problems[0].remedy}"]
        lines = []
        for problem in self.problems:
            lines += [f"line {problem.line}: {problem}", f"    what to do: {problem.remedy}"]
        return lines

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "remedy": "\n".join(dict.fromkeys(problem.remedy for problem in self.problems)),
            "file": self.file,
            "problems": [asdict(problem) for problem in self.problems],
        }


@dataclass(eq=False)
class JobFileUnreadable(ConfigError):
    template = "cannot read the job file {file}: {reason}"
    remedy = "Name a readable file with --config or VREPLICA_CONFIG."
    file: str
    reason: str


@dataclass(eq=False)
class NoJobFile(ConfigError):
    template = "there is no job file: looked for {tried}"
    remedy = "Write one of these files, or name another with --config or VREPLICA_CONFIG."
    tried: str


@dataclass(eq=False)
class UnknownName(ConfigError, KeyError):
    """A name that the job file does not have. Also a KeyError, for `get` of a Config."""

    remedy = "{hint}"
    file: str
    name: str
    hint: str


class UnknownJob(UnknownName):
    template = "{file} has no job {name}"


class UnknownGroup(UnknownName):
    template = "{file} has no group {name}"


class UnknownReceiver(UnknownName):
    template = "{file} has no receiver {name}"


@dataclass(eq=False)
class NoReceivers(ConfigError):
    template = "{file} has no receivers of notifications"
    remedy = "Write a table [notify.NAME]; docs/configuration.md shows one of each kind."
    file: str


@dataclass(eq=False)
class NoJobs(ConfigError):
    template = "{file} has no jobs"
    remedy = "Write a table [jobs.NAME] for each VM to replicate, or run `vreplica-sync init`."
    file: str
