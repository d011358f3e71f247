"""`[groups.NAME]`: jobs that fail over together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vreplica.config.schema.base import Model, Switch, Text, Whole


class GroupMemberTable(Model):
    """A job of a group."""

    after: tuple[Text, ...] = ()
    """Members that have to be up before this one is started."""
    delay_s: Whole = Field(default=0, ge=0, le=86400)
    """Seconds to wait once they are up."""
    heartbeat: Switch = True
    """This member is up when its guest answers; false: when it is powered on."""


class GroupTable(Model):
    """Jobs that fail over together."""

    members: dict[str, GroupMemberTable] = Field(min_length=1)
    parallel: Whole = Field(default=4, ge=1, le=32)
    """Members that fail over at the same time, where their order allows it."""
    on_error: Literal["stop", "continue"] = "stop"
    """stop: after an error no other member begins."""
