"""The page about the job file: its example is one, and no key is missing."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

import pytest

from vreplica.config import load
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

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_example_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    file = tmp_path / "vreplica.toml"
    file.write_text(example[1])
    secret = tmp_path / "dr.password"
    secret.touch(0o600)
    secret.write_text("x")
    monkeypatch.setenv("MAIN_PASSWORD", "y")
    config = load(file)
    assert list(config) == ["web01", "db01"]
    assert config["web01"].retention.last == 14
    assert config["db01"].exclude_disks == {"Hard disk 3"}


@pytest.mark.parametrize(
    "model",
    [
        *(SiteTable, JobTable, VddkTable, NfcTable, Secret, SourceTable, DestinationTable, JobFile),
        *(
            ScheduleTable,
            ServiceTable,
            GroupTable,
            GroupMemberTable,
            GuestTable,
            NicTable,
            GuestRulesTable,
        ),
        *(LimitsTable, RateWindowTable),
        *(NotifyTable, WebhookTable, MailTable, HookTable),
    ],
)
def test_every_key_is_explained(model: type) -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    for key in model.model_fields:  # type: ignore[attr-defined]
        assert re.search(rf"`[^`]*\b{key}\b[^`]*`", prose), key


def test_defaults_are_those_of_the_page() -> None:
    for key, field in DefaultsTable.model_fields.items():
        named = isinstance(field.default, str | Enum)
        shown = f'"{field.default}"' if named else str(field.default)
        shown = "none" if field.default is None else shown
        assert re.search(rf"^\| `{key}` \| `?{re.escape(shown)}`? \|", PAGE, re.MULTILINE), key
