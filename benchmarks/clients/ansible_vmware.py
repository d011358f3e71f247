"""Runs Ansible's modules for VMware (collection community.vmware) that the lab promises.

    python -m benchmarks.clients.ansible_vmware PATH_OF_ANSIBLE_PLAYBOOK

PyPI's package `ansible` has the collection; it needs pyvmomi and requests beside it. Each task is
run on a lab of its own playbook's making; a task of which the state is changed is run twice, and
changes nothing then. Prints one line for each task. Exit 1 where one fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vreplica.lab import Lab, LabControl
from vreplica.units import MIB

DC, CLUSTER, HOST, STORE = "site-a-dc", "site-a-cluster", "esx1.site-a.lab", "site-a-ds1"
VM = {"name": "web01", "datacenter": DC, "folder": f"/{DC}/vm"}
MADE = {"name": "made", "datacenter": DC, "folder": f"/{DC}/vm/outer"}

Task = tuple[str, dict[str, Any]]

READING: list[Task] = [
    ("vmware_about_info", {}),
    ("vmware_datacenter_info", {}),
    ("vmware_cluster_info", {"datacenter": DC}),
    ("vmware_datastore_info", {"datacenter": DC}),
    ("vmware_folder_info", {"datacenter": DC}),
    ("vmware_resource_pool_info", {}),
    ("vmware_vm_info", {}),
    ("vmware_guest_info", VM),
    ("vmware_guest_info", {**VM, "schema": "vsphere", "properties": ["config.uuid", "guest"]}),
    ("vmware_guest_find", {"name": "web01"}),
    ("vmware_guest_boot_info", {"name": "web01"}),
    ("vmware_guest_disk_info", VM),
    ("vmware_guest_snapshot_info", VM),
    ("vmware_guest_tools_info", VM),
    ("vmware_all_snapshots_info", {"datacenter": DC}),
    ("vmware_host_facts", {"esxi_hostname": HOST}),
    ("vmware_host_capability_info", {"esxi_hostname": HOST}),
    ("vmware_host_ssl_info", {"esxi_hostname": HOST}),
    ("vmware_vswitch_info", {"esxi_hostname": HOST}),
    ("vmware_portgroup_info", {"esxi_hostname": HOST}),
    ("vmware_dvs_portgroup_info", {"datacenter": DC}),
    ("vmware_dvs_portgroup_find", {}),
    ("vmware_dvswitch_info", {}),
    ("vmware_local_role_info", {}),
    ("vmware_guest_customization_info", {}),
    ("vmware_vm_config_option", {"datacenter": DC, "cluster_name": CLUSTER}),
]

CHANGING: list[Task] = [
    ("vmware_datacenter", {"datacenter_name": "other-dc", "state": "present"}),
    ("vmware_datacenter", {"datacenter_name": "other-dc", "state": "absent"}),
    ("vcenter_folder", {"datacenter": DC, "folder_name": "outer", "folder_type": "vm"}),
    (
        "vcenter_folder",
        {"datacenter": DC, "folder_name": "inner", "parent_folder": "outer", "folder_type": "vm"},
    ),
    ("vmware_resource_pool", {"datacenter": DC, "cluster": CLUSTER, "resource_pool": "pool"}),
    (
        "vmware_guest",
        {
            **MADE,
            "state": "present",
            "cluster": CLUSTER,
            "guest_id": "rhel9_64Guest",
            "hardware": {"memory_mb": 128, "num_cpus": 1, "scsi": "paravirtual"},
            "disk": [{"size_mb": 8, "type": "thin", "datastore": STORE}],
            "networks": [{"name": "VM Network", "device_type": "vmxnet3"}],
            "advanced_settings": [{"key": "guestinfo.x", "value": "1"}],
        },
    ),
    (
        "vmware_guest_disk",
        {
            **MADE,
            "disk": [
                {
                    "size_mb": 4,
                    "type": "thin",
                    "datastore": STORE,
                    "state": "present",
                    "scsi_controller": 0,
                    "scsi_type": "paravirtual",
                    "unit_number": 1,
                }
            ],
        },
    ),
    (
        "vmware_guest_controller",
        {**MADE, "controllers": [{"type": "sata", "state": "present", "controller_number": 0}]},
    ),
    ("vmware_guest_boot_manager", {"name": "made", "boot_delay": 2000}),
    ("vmware_guest_powerstate", {**MADE, "state": "powered-on"}),
    ("vmware_guest_snapshot", {**MADE, "snapshot_name": "first", "state": "present"}),
    ("vmware_guest_snapshot_info", MADE),
    ("vmware_guest_powerstate", {**MADE, "state": "powered-off"}),
    ("vmware_guest_snapshot", {**MADE, "snapshot_name": "first", "state": "revert"}),
    ("vmware_guest_snapshot", {**MADE, "snapshot_name": "first", "state": "absent"}),
    ("vmware_guest_custom_attribute_defs", {"attribute_key": "owner", "state": "present"}),
    (
        "vmware_guest_custom_attributes",
        {**MADE, "attributes": [{"name": "owner", "value": "me"}], "state": "present"},
    ),
    (
        "vmware_guest_move",
        {"name": "made", "datacenter": DC, "dest_folder": f"/{DC}/vm/outer/inner"},
    ),
    (
        "vmware_guest",
        {
            "name": "cloned",
            "datacenter": DC,
            "folder": f"/{DC}/vm/outer",
            "template": "made",
            "cluster": CLUSTER,
            "state": "present",
            "datastore": STORE,
        },
    ),
    (
        "vmware_guest_register_operation",
        {
            "name": "cloned",
            "datacenter": DC,
            "folder": f"/{DC}/vm/outer",
            "esxi_hostname": HOST,
            "state": "absent",
        },
    ),
    (
        "vmware_guest_register_operation",
        {
            "name": "cloned",
            "datacenter": DC,
            "folder": f"/{DC}/vm/outer",
            "esxi_hostname": HOST,
            "path": f"[{STORE}] cloned/cloned.vmx",
            "state": "present",
        },
    ),
    (
        "vmware_guest",
        {"name": "cloned", "folder": f"/{DC}/vm/outer", "datacenter": DC, "state": "absent"},
    ),
    ("vsphere_copy", {"datacenter": DC, "datastore": STORE, "src": "FILE", "path": "web01/file"}),
    ("vsphere_file", {"datacenter": DC, "datastore": STORE, "path": "web01/file"}),
    (
        "vsphere_file",
        {"datacenter": DC, "datastore": STORE, "path": "web01/file", "state": "absent"},
    ),
    ("vmware_custom_attribute", {"custom_attribute": "tier", "object_type": "VirtualMachine"}),
    (
        "vmware_resource_pool",
        {"datacenter": DC, "cluster": CLUSTER, "resource_pool": "pool", "state": "absent"},
    ),
    (
        "vcenter_folder",
        {"datacenter": DC, "folder_name": "outer", "folder_type": "vm", "state": "absent"},
    ),
]

AS_OFTEN = (
    "_info",
    "vmware_guest_controller",
    "vmware_guest_register_operation",
    "vmware_guest_snapshot",
    "vsphere_copy",
)
"""Modules that are not run a second time, or that change something then too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--only", help="only modules whose names have this part")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Lab.create(folder / "lab", sites=("site-a",), portgroups=("pg",)) as lab:
            control = LabControl(lab.directory)
            control.create_vm("site-a", "web01", disks=[(4 * MIB, True, None)], power_on=True)
            results = play(options.program, folder, lab.specs[0], options.only or "")
    failed = [task for task, good, _ in results if not good]
    for task, good, said in results:
        print(f"{'good  ' if good else 'FAILED'} {task}{'' if good else ': ' + said}")
    print(f"{len(results) - len(failed)} of {len(results)} tasks are good")
    sys.exit(bool(failed))


def play(program: Path, folder: Path, spec: Any, only: str) -> list[tuple[str, bool, str]]:
    """Runs all tasks in one playbook, each whatever became of those before."""
    file = folder / "file"
    file.write_text("some text\n")
    login = {
        "hostname": spec.host,
        "port": spec.port,
        "username": spec.user,
        "password": spec.password,
        "validate_certs": False,
    }
    tasks = []
    for module, given in (t for t in [*READING, *CHANGING] if only in t[0]):
        arguments = {k: str(file) if v == "FILE" else v for k, v in given.items()}
        # These two take no port.
        address = {"hostname": f"{spec.host}:{spec.port}"} if module.startswith("vsphere_") else {}
        again = not any(part in module for part in AS_OFTEN)
        for name in (
            (module, f"{module}, again") if (module, given) in CHANGING and again else (module,)
        ):
            task = {"name": name, f"community.vmware.{module}": {**login, **address, **arguments}}
            tasks.append({**task, "ignore_errors": True})
    book = folder / "book.json"
    plays = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
    book.write_text(json.dumps(plays))
    environment = {
        **os.environ,
        "HOME": str(folder),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_PYTHON_INTERPRETER": str(program.absolute().with_name("python")),
    }
    ran = subprocess.run(
        [program.absolute(), str(book)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    document = json.loads(ran.stdout[ran.stdout.index("{") :])
    found = []
    for task in document["plays"][0]["tasks"]:
        name, result = task["task"]["name"], task["hosts"]["localhost"]
        said = str(result.get("msg") or result.get("module_stderr") or "")[-300:]
        good = not result.get("failed")
        if name.endswith(", again") and result.get("changed"):
            good, said = False, "changed something again"
        found.append((name, good, " ".join(said.split())))
    return found


if __name__ == "__main__":
    main()
