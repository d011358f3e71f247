"""Counts the calls to both vCenters, and the seconds, of a delta run on the lab.

    python -m benchmarks.delta_calls [--jobs 20] [--rounds 3] [--json]

The lab is a process of its own. Each job has one disk of 16 MiB, of which the guest rewrites 1 MiB
before each run. The jobs run one after the other, as `vreplica-sync run` does it; the median of the
rounds counts. Calls are those that pyVmomi sends, whatever sends them. Polls of tasks are told
apart: their number depends on how quick the machine is.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from pyVmomi import vim
from pyVmomi.SoapAdapter import SoapStubAdapter

import vreplica.lab
from vreplica.lab import LabControl
from vreplica.sync.cycle import run
from vreplica.sync.job import Job, Placement, Transport
from vreplica.units import MIB
from vreplica.vsphere.model import Endpoint

SIZE = 16 * MIB


def main() -> None:
    parser = argparse.ArgumentParser(description="Calls and seconds of a delta run on the lab.")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        found = measure(Path(folder), options.jobs, options.rounds)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    calls, seconds = found["calls"], found["seconds"]
    print(f"{options.jobs} jobs, a run: {calls} calls and polls of tasks, {seconds:.3f} s")
    for name, number in found["methods"].items():
        print(f"  {number:6.2f}  {name}")


def measure(folder: Path, jobs: int, rounds: int) -> dict[str, object]:
    vreplica.lab.up(folder / "lab")
    try:
        control = LabControl(folder / "lab")
        sites = vreplica.lab.status(folder / "lab")["sites"]
        made = [job(folder, control, sites, number) for number in range(jobs)]
        for each in made:
            run(each)
        calls, seconds, methods = [], [], Counter[str]()
        for number in range(rounds):
            for each in made:
                data = bytes([number + 1]) * MIB
                control.guest_write(sites[0]["name"], each.source_vm, 2000, 0, data)
            with counting() as counted:
                began = perf_counter()
                for each in made:
                    run(each)
                seconds.append((perf_counter() - began) / jobs)
            calls.append((counted.total() - counted["polls of tasks"]) / jobs)
            methods += counted
    finally:
        vreplica.lab.down(folder / "lab")
    return {
        "jobs": jobs,
        "calls": statistics.median(calls),
        "seconds": statistics.median(seconds),
        "methods": {name: n / jobs / rounds for name, n in methods.most_common()},
    }


def job(folder: Path, control: LabControl, sites: list[dict[str, Any]], number: int) -> Job:
    name = f"vm{number:02}"
    control.create_vm(sites[0]["name"], name, disks=[(SIZE, True, None)], power_on=True)
    return Job(
        name=name,
        source=endpoint(sites[0]),
        source_vm=name,
        destination=endpoint(sites[1]),
        placement=Placement(datastore=sites[1]["datastores"][0], name=f"{name}-replica"),
        state_dir=folder / "state",
        transport=Transport.NFC,
    )


def endpoint(site: dict[str, Any]) -> Endpoint:
    host, _, port = re.sub("^https://", "", str(site["url"])).partition("/")[0].partition(":")
    user, password, sha256 = (str(site[key]) for key in ("user", "password", "sha256"))
    return Endpoint(host=host, port=int(port), user=user, password=password, sha256=sha256)


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Counts what pyVmomi sends, by method."""
    found: Counter[str] = Counter()
    real = SoapStubAdapter.InvokeMethod

    def counted(stub: Any, managed: Any, info: Any, args: Any, *more: Any) -> Any:
        polls = info.wsdlName == "RetrievePropertiesEx" and _is_poll(args[0])
        found["polls of tasks" if polls else info.wsdlName] += 1
        return real(stub, managed, info, args, *more)

    SoapStubAdapter.InvokeMethod = counted
    try:
        yield found
    finally:
        SoapStubAdapter.InvokeMethod = real


def _is_poll(filters: Any) -> bool:
    return all(kind.type is vim.Task for one in filters for kind in one.propSet)


if __name__ == "__main__":
    main()
