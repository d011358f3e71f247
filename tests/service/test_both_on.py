"""Both VMs of a job on: seen in the inventories, reported once by the fleet, and the next time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vreplica
from tests.support.job_file import STATE, job_table, site_table
from tests.support.sample_reading import job_of
from vreplica.cli import catalog_updates
from vreplica.cli.render.output import Output
from vreplica.failover.live import LiveJob, LiveSide
from vreplica.service.catalog.both_on import BothOnReporter
from vreplica.service.catalog.database import Catalog
from vreplica.service.occupancy import SiteInventory, both_on
from vreplica.vsphere.model import VmLocation, VmRef

BOTH = "web01 at main, web01-replica at dr"


def vm(name: str, power: str, moref: str = "") -> VmLocation:
    return VmLocation(VmRef(moref or name, name), f"u-{moref or name}", "esx", ("ds",), power)


@pytest.mark.parametrize(
    ("here", "there", "found"),
    [
        ([vm("web01", "poweredOn")], [vm("web01-replica", "poweredOn")], BOTH),
        ([vm("web01", "poweredOn")], [vm("web01-replica", "poweredOff")], None),
        ([vm("web01", "suspended")], [vm("web01-replica", "poweredOn")], None),
        ([vm("web01", "poweredOn")], [], None),
        # Which of the two is meant is not known.
        (
            [vm("web01", "poweredOn", "1"), vm("web01", "poweredOn", "2")],
            [vm("web01-replica", "poweredOn")],
            None,
        ),
    ],
)
def test_both_are_on_where_both_sites_say_so(
    here: list[VmLocation], there: list[VmLocation], found: str | None, tmp_path: Path
) -> None:
    jobs = {"web01": (job_of("web01", tmp_path), "main", "dr")}
    sites = {
        "main": SiteInventory("main", tuple(here), ()),
        "dr": SiteInventory("dr", tuple(there), ()),
    }
    assert both_on(jobs, sites) == {"web01": found}
    del sites["dr"]
    assert both_on(jobs, sites) == {}, "a site that does not answer says nothing"


def test_the_fleet_reports_it_once_and_again_the_next_time(tmp_path: Path) -> None:
    catalog = Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite")
    told: list[tuple[str, str, Any]] = []

    def mover(name: str) -> Callable[[dict[str, str | None]], None]:
        return BothOnReporter(
            catalog, name, lambda what, job, data: told.append((name, what, data.get("text")))
        )

    first, second = mover("m1"), mover("m2")
    for look in (first, second, first, second, mover("m1")):
        look({"web01": BOTH, "db01": None})
    first({})
    assert told == [("m1", "both VMs on", BOTH)]
    for look in (second, first, second):
        look({"web01": None, "db01": None})
    assert told[1:] == [("m2", "both VMs on: over", None)]
    first({"web01": BOTH})
    assert told[2:] == [("m1", "both VMs on", BOTH)]
    assert len(catalog.audit_trail("web01")) == 3
    catalog.close()


def test_a_command_that_sees_it_leaves_the_event_for_the_service(job_file: Path) -> None:
    job_file.write_text(STATE + site_table() + job_table("web01"))
    config = vreplica.load(job_file)
    catalog = Catalog.open(config.catalog_url())
    on = LiveSide("main", "web01", "poweredOn", True), LiveSide("dr", "r", "poweredOn", True)
    for _ in range(2):
        catalog_updates.both_on_seen(Output(), config, {"web01": LiveJob(*on)})
    (entry,) = catalog.audit_trail("web01")
    assert (entry["what"], entry["data"]["text"]) == ("both VMs on", "web01 at main and r at dr")
    catalog.close()
