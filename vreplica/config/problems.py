"""Turns pydantic's validation errors into problems with line, key, reason and remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vreplica.config.errors import Problem
from vreplica.config.schema.base import Secret
from vreplica.config.schema.groups import GroupMemberTable, GroupTable
from vreplica.config.schema.guest import GuestRulesTable, GuestTable, NicTable
from vreplica.config.schema.jobfile import JobFile
from vreplica.config.schema.jobs import DefaultsTable, DestinationTable, JobTable, SourceTable
from vreplica.config.schema.limits import LimitsTable, RateWindowTable
from vreplica.config.schema.nfc import NfcTable
from vreplica.config.schema.notify import HookTable, MailTable, NotifyTable, WebhookTable
from vreplica.config.schema.schedule import ScheduleTable
from vreplica.config.schema.service import ServiceTable
from vreplica.config.schema.sites import SiteTable
from vreplica.config.schema.vddk import VddkTable
from vreplica.config.toml_positions import KeyPath, Lines, line_of

_MODELS: dict[KeyPath, type[BaseModel]] = {
    (): JobFile,
    ("vddk",): VddkTable,
    ("nfc",): NfcTable,
    ("defaults",): DefaultsTable,
    ("sites", "*"): SiteTable,
    ("sites", "*", "password"): Secret,
    ("jobs", "*"): JobTable,
    ("service",): ServiceTable,
    ("service", "database"): Secret,
    ("defaults", "schedule"): ScheduleTable,
    ("jobs", "*", "schedule"): ScheduleTable,
    ("defaults", "limits"): LimitsTable,
    ("defaults", "limits", "windows", "*"): RateWindowTable,
    ("jobs", "*", "limits"): LimitsTable,
    ("jobs", "*", "limits", "windows", "*"): RateWindowTable,
    ("jobs", "*", "source"): SourceTable,
    ("jobs", "*", "destination"): DestinationTable,
    ("jobs", "*", "guest"): GuestTable,
    ("jobs", "*", "guest", "password"): Secret,
    ("jobs", "*", "guest", "nics", "*"): NicTable,
    ("jobs", "*", "guest", "failback"): GuestRulesTable,
    ("jobs", "*", "guest", "failback", "nics", "*"): NicTable,
    ("notify", "*"): NotifyTable,
    ("notify", "*", "webhook"): WebhookTable,
    ("notify", "*", "webhook", "url"): Secret,
    ("notify", "*", "webhook", "sign"): Secret,
    ("notify", "*", "mail"): MailTable,
    ("notify", "*", "mail", "password"): Secret,
    ("notify", "*", "hook"): HookTable,
    ("groups", "*"): GroupTable,
    ("groups", "*", "members", "*"): GroupMemberTable,
}
"""The model of each table, for the known names that are close to a misspelt key."""

_EXAMPLES = {
    "host": 'host = "vcenter.example"',
    "user": 'user = "replication@vsphere.local"',
    "password": 'password = { env = "VARIABLE" }, { file = "path" } or { keyring = "service" }',
    "sha256": 'sha256 = "AA:BB:..."; `vreplica-sync thumbprint HOST` prints it',
    "source": 'source = { site = "main", vm = "web01" }',
    "destination": 'destination = { site = "dr", datastore = "store1", name = "web01-replica" }',
    "site": 'site = "NAME", one of the tables [sites.NAME]',
    "vm": 'vm = "web01"',
    "datastore": 'datastore = "store1"',
    "when": 'when = "mon-fri 08:00-18:00"',
    "name": 'name = "web01-replica"',
    "url": 'url = { env = "VARIABLE" }: the URL is a secret',
    "sender": 'sender = "vreplica@example.com"',
    "to": 'to = ["ops@example.com"]',
    "command": 'command = ["/path/of/program", "argument"]',
    "members": 'members = { db01 = {}, web01 = { after = ["db01"] } }',
}

_TYPES = {
    "string_type": ("a text", 'Write it in quotes: "..."'),
    "path_type": ("a path", 'Write it in quotes: "/some/path"'),
    "float_type": ("a number", "Write it in digits, without quotes."),
    "float_parsing": ("a number", "Write it in digits, without quotes."),
    "int_type": ("a whole number", "Write it in digits, without quotes."),
    "bool_type": ("true or false", "Write true or false, without quotes."),
    "frozen_set_type": ("a list", 'Write a list: ["...", "..."]'),
    "tuple_type": ("a list", 'Write a list: ["...", "..."]'),
    "dict_type": ("a table", 'Write a table: { "..." = "..." }'),
    "model_type": ("a table", 'Write a table: { key = "value" }'),
}


def from_validation(
    error: ValidationError,
    raw: dict[str, Any],
    lines: Lines,
    inherited_from: dict[KeyPath, KeyPath],
) -> list[Problem]:
    """The problems of a file, one for each error of pydantic.

    `raw`: the file as it was parsed. `inherited_from`: for each key that a job has from `defaults`,
    the key there.
    """
    found: dict[tuple[KeyPath, str], Problem] = {}
    for detail in error.errors(include_input=False, include_url=False):
        path = _origin(tuple(detail["loc"]), inherited_from)
        what, remedy = _explained(detail, path, raw)
        found.setdefault((path, what), problem_at(lines, path, what, remedy))
    return list(found.values())


def problem_at(lines: Lines, path: KeyPath, what: str, remedy: str) -> Problem:
    """A problem of the key at a path, with its line."""
    return Problem(line_of(lines, path), dotted(path), what, remedy)


def dotted(path: KeyPath) -> str:
    """`jobs.web01.exclude_disks[0]`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name that is closest to this one, if any is close."""
    by_lower = {k.lower(): k for k in known}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def suggestion(name: str, known: Iterable[str], noun: str) -> str:
    """A remedy: the name that was probably meant, or all known names."""
    names = list(known)
    if close := did_you_mean(name, names):
        return f"Did you mean {close}?"
    return f"{noun}: {', '.join(names) or 'none'}."


def _explained(detail: ErrorDetails, path: KeyPath, raw: dict[str, Any]) -> tuple[str, str]:
    """The reason, and the remedy."""
    kind, context = detail["type"], detail.get("ctx", {})
    key = str(path[-1]) if path else ""
    match kind:
        case "vreplica":
            return context["what"], context["remedy"]
        case "extra_forbidden":
            return "is not a known key", _other_keys(key, path[:-1], raw)
        case "missing":
            return "is missing", f"Add {_EXAMPLES.get(key, f'{key} = ...')}."
        case "literal_error" | "enum":
            choices = str(context["expected"]).replace("'", '"')
            return f"is not one of its values: {choices}", f"Choose {choices}."
        case "greater_than_equal":
            return f"is below {context['ge']}", f"Give {context['ge']} or more."
        case "less_than_equal":
            return f"is above {context['le']}", f"Give {context['le']} or less."
        case "string_too_short" | "too_short":
            return "is empty", "Give a value, or leave the key out where it has a default."
    if kind in _TYPES:
        noun, remedy = _TYPES[kind]
        return f"is not {noun}", remedy
    return detail["msg"], "See docs/configuration.md."


def _other_keys(key: str, table: KeyPath, raw: dict[str, Any]) -> str:
    """The remedy for an unknown key: the key that was probably meant, or the keys not yet set."""
    model = _MODELS[_pattern(table)]
    if close := did_you_mean(key, model.model_fields):
        return f"Did you mean {close}?"
    written = _at(raw, table)
    return f"Known keys: {', '.join(k for k in model.model_fields if k not in written)}."


def _pattern(path: KeyPath) -> KeyPath:
    """The path of a table in `_MODELS`: names that the user chose, and numbers, become `*`."""
    if path[:1] in (("sites",), ("jobs",), ("notify",), ("groups",)):
        path = (path[0], "*", *path[2:])
    members = ("groups", "*", "members")
    if path[:3] == members:
        path = (*members, "*", *path[4:])
    return tuple("*" if isinstance(part, int) else part for part in path)


def _origin(path: KeyPath, inherited_from: dict[KeyPath, KeyPath]) -> KeyPath:
    for end in range(len(path), 0, -1):
        if path[:end] in inherited_from:
            return inherited_from[path[:end]] + path[end:]
    return path


def _at(raw: Any, path: KeyPath) -> Any:
    for part in path:
        raw = raw[part]
    return raw
