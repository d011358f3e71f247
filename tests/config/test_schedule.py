"""`schedule` and `[service]` in a job file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from vreplica.config import load
from vreplica.config.errors import JobFileInvalid
from vreplica.scheduling.schedule import Cron, Every, Rpo, ScheduleRule

BASE = """\
[sites.a]
host = "a.example"
user = "u"
password = { env = "P" }
sha256 = "AA:..."

[defaults]
schedule = { rpo = "15m", priority = 5 }

[jobs.web01]
source = { site = "a", vm = "web01" }
destination = { site = "a", datastore = "d", name = "r1" }
""".replace("AA:...", ":".join(["AA"] * 32))


def rule_of(tmp_path: Path, schedule: str) -> ScheduleRule:
    file = tmp_path / "vreplica.toml"
    file.write_text(BASE + schedule)
    rule = load(file).rule("web01")
    assert rule is not None
    return rule


def test_a_schedule_is_inherited_whole(tmp_path: Path) -> None:
    rule = rule_of(tmp_path, "")
    assert rule.when == Rpo(timedelta(minutes=15))
    assert rule.priority == 5
    own = rule_of(tmp_path, 'schedule = { every = "4h", jitter = "90s" }\n')
    assert own.when == Every(timedelta(hours=4))
    assert (own.priority, own.jitter) == (0, timedelta(seconds=90))


def test_cron_with_a_zone_windows_and_a_watched_rpo(tmp_path: Path) -> None:
    rule = rule_of(
        tmp_path,
        'schedule = { cron = "30 2 * * *", timezone = "Europe/Berlin", rpo = "1d",'
        ' windows = ["mon-fri 22:00-06:00"], blackout = ["2026-12-24 18:00/2026-12-27 06:00"] }\n',
    )
    assert rule.when == Cron("30 2 * * *")
    assert rule.zone == ZoneInfo("Europe/Berlin")
    assert rule.target == timedelta(days=1)
    assert len(rule.opening.windows) == len(rule.opening.blackout) == 1


@pytest.mark.parametrize(
    ("schedule", "what"),
    [
        ("schedule = {}", "has no time"),
        ('schedule = { cron = "0 0 * * *", every = "1h" }', "both cron and every"),
        ('schedule = { cron = "61 * * * *" }', "not a cron expression"),
        ('schedule = { every = "4 hours" }', "is not a duration"),
        ('schedule = { every = 4 }', "is not a duration"),
        ('schedule = { rpo = "0m" }', "is not a duration"),
        ('schedule = { rpo = "1h", timezone = "Berlin" }', "is no time zone"),
        ('schedule = { rpo = "1h", windows = ["always"] }', "'always' is not"),
        ('schedule = { rpo = "1h", evry = "1h" }', "Did you mean every?"),
        ('[service]\ndatabase = "postgresql://u:p@h/d"', "may not be written into the file"),
        ("[service]\nruns_per_hst = 1", "Did you mean runs_per_host?"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(tmp_path: Path, schedule: str, what: str) -> None:
    with pytest.raises(JobFileInvalid) as caught:
        rule_of(tmp_path, schedule + "\n")
    (problem,) = caught.value.problems
    assert what in f"{problem.what} {problem.remedy}"
    assert problem.line == BASE.count("\n") + 1 + schedule.count("\n")
