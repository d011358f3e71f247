"""Picks the target of a failover command. It is the one place that asks which kind it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vreplica.cli.render.output import Output

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.failover.target import FailoverTarget


def choose_target(
    out: Output,
    config: Config,
    name: str,
    *,
    by_service: bool = False,
    on_error: str | None = None,
) -> FailoverTarget:
    """The job or group of this name, in this process or by the service.

    `on_error`: replaces the rule of a group. Raises UnknownJob, UnknownGroup, SecretUnavailable.
    """
    from vreplica.failover.machine.choices import OnError
    from vreplica.failover.machine.group_order import GROUP_PREFIX

    is_group = name.startswith(GROUP_PREFIX)
    rule = OnError(on_error) if on_error is not None else None
    if by_service:
        from vreplica.cli.commands.failover.service_target import ServiceTarget

        if not is_group:
            config.select([name])
            return ServiceTarget(out, config, name)
        group = config.group(name.removeprefix(GROUP_PREFIX))
        group = replace(group, on_error=rule) if rule is not None else group
        return ServiceTarget(out, config, name, group)
    from vreplica.cli.commands.failover.catalogued_target import CataloguedTarget
    from vreplica.failover.target import GroupTarget, JobTarget

    if is_group:
        group = config.group(name.removeprefix(GROUP_PREFIX))
        target = GroupTarget(group, config, config.state_dir, rule)
        members = tuple(member.name for member in group.members)
        return CataloguedTarget(target, members, out, config)
    return CataloguedTarget(JobTarget(config[name]), (name,), out, config)
