"""What stands on the display while a command works."""

from __future__ import annotations

from vreplica.cli.render.output import Output
from vreplica.cli.render.progress import Watcher
from vreplica.sync.events import Step


def test_what_a_failover_says_takes_the_place_of_a_step_that_is_over() -> None:
    watcher = Watcher(Output(), "web01")
    watcher(Step("cleanup", "removing the snapshot of web01"))
    watcher.report("waiting for the replica's guest: 300 s left")
    assert str(watcher._spinner.text) == "web01: waiting for the replica's guest: 300 s left"
