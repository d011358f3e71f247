"""What would fail later is refused while the source runs; what is shown was just read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from tests.e2e.failover.test_failover import YES, ready
from tests.support.reporting import quiet
from vreplica.failover import history, operations
from vreplica.failover.machine.errors import GuestRulesDoNotFit
from vreplica.failover.preview import preview
from vreplica.sync.job import Customize, Guest
from vreplica.sync.job_switch import disabled_by
from vreplica.vsphere.model import GuestCustomization, NicRule

Content = Callable[..., Path]
NICS = (NicRule(ip="10.2.0.5/24"), NicRule())
GUESTS = {
    "no such specification": Guest(customize=Customize.SPEC, spec="nosuch"),
    "a specification for two cards": Guest(customize=Customize.SPEC, spec="linux-two"),
    "rules for two cards": Guest(
        customize=Customize.SPEC, customization=GuestCustomization("web", "dr.example", NICS)
    ),
    "a script for two cards": Guest(
        user="root",
        password=lambda: "x",
        customize=Customize.SCRIPT,
        customization=GuestCustomization("web", "dr.example", NICS),
    ),
}


def make_specification(world: Any, cards: int) -> None:
    kinds = vim.vm.customization
    mapping = kinds.AdapterMapping(adapter=kinds.IPSettings(ip=kinds.DhcpIpGenerator()))
    spec = kinds.Specification(
        identity=kinds.LinuxPrep(hostName=kinds.FixedName(name="x"), domain="dr.example"),
        globalIPSettings=kinds.GlobalIPSettings(),
        nicSettingMap=[mapping] * cards,
    )
    with world.connect(1) as session:
        info = vim.CustomizationSpecInfo(name="linux-two", description="", type="Linux")
        session.service_instance.content.customizationSpecManager.CreateCustomizationSpec(
            vim.CustomizationSpecItem(info=info, spec=spec)
        )


def test_addresses_that_do_not_fit_are_refused_while_the_source_runs(
    world: Any, content: Content
) -> None:
    vm, job = ready(world, content, guest_id="rhel9_64Guest")
    make_specification(world, 2)
    for name, guest in GUESTS.items():
        with pytest.raises(GuestRulesDoNotFit) as refused:
            operations.fail_over(replace(job, guest=guest), YES, quiet)
        assert refused.value.exit_code == 3, name
        with world.managed(0, vm) as source:
            assert source.runtime.powerState == "poweredOn", name
        assert disabled_by(job) is None, name
        assert history.folders(job) == [], name


def test_what_vcenter_only_remembers_is_said_to_be_remembered(world: Any, content: Content) -> None:
    vm, job = ready(world, content)
    with world.managed(0, vm) as source:
        host = source.runtime.host.name
    world.control.set_host(world.here, host=host, connected=False)
    try:
        known = preview(job)
    finally:
        world.control.set_host(world.here)
    assert known.source is None, "no power state and no Tools are shown as read"
    assert "remembers" in (known.source_trouble or "")
