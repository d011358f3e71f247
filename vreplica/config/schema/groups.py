"""`[groups.NAME]`: jobs that fail over together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vreplica.config.schema.base import Model, Switch, Text, Whole


class GroupMemberTable(Model):
    """See vreplica.failover.machine.group_order.Member."""

    after: tuple[Text, ...] = ()
    delay_s: Whole = Field(default=0, ge=0, le=86400)
    heartbeat: Switch = True


class GroupTable(Model):
    """Jobs that fail over together."""

    members: dict[str, GroupMemberTable] = Field(min_length=1)
    parallel: Whole = Field(default=4, ge=1, le=32)
    on_error: Literal["stop", "continue"] = "stop"
