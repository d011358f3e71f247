"""Measures a lab of 1,000 VMs on 20 hosts: its start, and its answers to property queries.

    python -m benchmarks.lab_scale [--vms 1000] [--rounds 7]

Each VM has two disks and a network card. The client is another process and connects over TLS. One
figure is the time to the last byte of the answer, which is the work of the lab. The other is the
same call through pyvmomi, which spends most of the time on parsing the answer. Each is measured on
a fresh lab, which has to make every property at the first call. Limits of the project: 5 s and 1.5
s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vreplica.lab import Lab
from vreplica.lab.vcenter.make_vm import make_vm
from vreplica.units import MIB

HOSTS = 20
QUERIES = {
    "name, power, address, host": ("name", "runtime.powerState", "guest.ipAddress", "runtime.host"),
    "inventory listing": (
        "name",
        "runtime.powerState",
        "runtime.host",
        "config.uuid",
        "parent",
        "datastore",
        "summary",
    ),
    "typical, with all devices": (
        "name",
        "runtime.powerState",
        "config.uuid",
        "config.changeTrackingEnabled",
        "config.hardware.device",
        "snapshot",
        "guest",
    ),
}
CLIENT = """
import http.client, json, ssl, sys, time
from pyVmomi import SoapStubAdapter, vim, vmodl

given = json.load(sys.stdin)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
stub = SoapStubAdapter(
    host=given["host"], port=given["port"], version="vim.version.v8_0_3_0", sslContext=context
)
service = vim.ServiceInstance("ServiceInstance", stub)
content = service.content
content.sessionManager.Login(given["user"], given["password"])
view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
kinds = vmodl.query.PropertyCollector
walk = kinds.TraversalSpec(type=vim.view.ContainerView, path="view", skip=False)
rows = {}
for name, paths in given["queries"].items():
    spec = kinds.FilterSpec(
        objectSet=[kinds.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[kinds.PropertySpec(type=vim.VirtualMachine, pathSet=paths)],
    )
    rows[name] = []
    method = kinds.RetrieveContents.info
    body = stub.SerializeRequest(content.propertyCollector, method, [[spec]])
    raw = http.client.HTTPSConnection(given["host"], given["port"], context=context)
    for _ in range(given["rounds"]):
        size, wall, cpu = 0, time.perf_counter(), time.process_time()
        if given["parsed"]:
            count = len(content.propertyCollector.RetrieveContents([spec]))
        else:
            headers = {"Cookie": stub.cookie, "SOAPAction": '"urn:vim25/8.0.3.0"'}
            raw.request("POST", "/sdk", body, headers)
            answer = raw.getresponse().read()
            count, size = answer.count(b"<returnval>"), len(answer)
        rows[name].append([time.perf_counter() - wall, time.process_time() - cpu, size])
        assert count == given["vms"]
print(json.dumps(rows))
"""


def fill(folder: Path, count: int) -> None:
    with Lab.create(folder, sites=("site-a",), hosts=HOSTS) as lab:
        for number in range(count):
            make_vm(
                lab.sites["site-a"],
                f"vm{number:04}",
                disks=[(MIB, True, None)] * 2,
                host=f"esx{number % HOSTS + 1}.site-a.lab",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vms", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "lab", options.vms)
        starts, rows = [], {}
        for parsed in (False, True):
            lab = Lab(Path(folder) / "lab")
            begin = time.perf_counter()
            lab.start()
            starts.append(time.perf_counter() - begin)
            rows[parsed] = ask(lab, parsed, options.rounds, options.vms)
            lab.stop()
    print(
        f"start, {options.vms} VMs on {HOSTS} hosts: {' and '.join(f'{s:.2f}' for s in starts)} s"
    )
    for name in QUERIES:
        wall, _, sizes = zip(*rows[False][name], strict=True)
        through, cpu, _ = zip(*rows[True][name], strict=True)
        print(
            f"{name}, {sizes[0] / MIB:.1f} MiB: first {wall[0]:.2f} s, then {_said(wall[1:])} s; "
            f"through pyvmomi first {through[0]:.2f} s, then {_said(through[1:])} s, "
            f"of which its own CPU {statistics.median(cpu):.2f} s"
        )


def ask(lab: Lab, parsed: bool, rounds: int, vms: int) -> dict[str, list[list[float]]]:
    """Returns for each query and round: seconds, CPU seconds of the client, bytes."""
    spec = lab.specs[0]
    given = {
        "host": spec.host,
        "port": spec.port,
        "user": spec.user,
        "password": spec.password,
        "queries": QUERIES,
        "rounds": rounds,
        "vms": vms,
        "parsed": parsed,
    }
    done = subprocess.run(
        [sys.executable, "-c", CLIENT],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[list[float]]] = json.loads(done.stdout)
    return found


def _said(values: Sequence[float]) -> str:
    return f"median {statistics.median(values):.2f}, best {min(values):.2f}"


if __name__ == "__main__":
    main()
