"""Groups in a job file: what they become, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.job_file import job_table, site_table
from vreplica.config import load
from vreplica.config.errors import JobFileInvalid, UnknownGroup
from vreplica.failover.machine.choices import OnError
from vreplica.failover.machine.group_order import Group, Member

FILE = site_table() + "".join(map(job_table, ("db", "app", "web")))


def written(tmp_path: Path, group: str) -> Path:
    file = tmp_path / "jobs.toml"
    file.write_text(FILE + group)
    return file


def test_a_group_has_its_order_delays_and_limits(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """\
[groups.shop]
parallel = 2
on_error = "continue"
[groups.shop.members]
db = {}
app = { after = ["db"], delay_s = 30 }
web = { after = ["db", "app"], heartbeat = false }
""",
    )
    config = load(file)
    assert config.groups == ["shop"]
    assert config.group("shop") == Group(
        "shop",
        (
            Member("db"),
            Member("app", ("db",), 30.0),
            Member("web", ("db", "app"), heartbeat=False),
        ),
        parallel=2,
        on_error=OnError.CONTINUE,
    )
    assert Group.from_dict(config.group("shop").to_dict()) == config.group("shop")
    with pytest.raises(UnknownGroup, match="shops") as caught:
        config.group("shops")
    assert "Did you mean shop?" in caught.value.explain()[0]


@pytest.mark.parametrize(
    ("member", "line", "said", "remedy"),
    [
        ('wbe = { after = ["db"] }', 4, "members.wbe: there is no job wbe", "mean web?"),
        (
            'web = { after = ["dbb"] }',
            4,
            "members.web.after[0]: dbb is not a member of this group",
            "mean db?",
        ),
        ('web = { after = ["web"] }', 4, "no member can begin: web waits for web", "after"),
        (
            'web = { after = ["app"] }\napp = { after = ["web"] }',
            4,
            "no member can begin: web waits for app waits for web",
            "after",
        ),
        ('web = { afetr = ["db"] }', 4, "members.web.afetr: is not a known key", "mean after?"),
        ('web = { after = "db" }', 4, "members.web.after: is not a list", '["...", "..."]'),
        ("web = { delay_s = -1 }", 4, "members.web.delay_s: is below 0", "0 or more"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, member: str, line: int, said: str, remedy: str
) -> None:
    file = written(tmp_path, f"[groups.shop]\n[groups.shop.members]\ndb = {{}}\n{member}\n")
    with pytest.raises(JobFileInvalid) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert said in str(problem)
    assert problem.line == FILE.count("\n") + line
    assert remedy in problem.remedy


def test_a_group_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobFileInvalid, match="members: is empty"):
        load(written(tmp_path, "[groups.shop]\nmembers = {}\n"))
    with pytest.raises(JobFileInvalid, match="members: is missing"):
        load(written(tmp_path, "[groups.shop]\n"))
