"""Looks at the place of a replica that does not exist yet, and at the room at the destination."""

from __future__ import annotations

from collections.abc import Sequence

from vreplica.sync.disk_plan import DiskPlan
from vreplica.sync.job_state import JobState
from vreplica.sync.plan.space import RoomFindings, find_room
from vreplica.sync.replica.shape import Shape, replica_spec
from vreplica.vsphere.errors import PlacementAmbiguous, PlacementNotFound
from vreplica.vsphere.names import NAME_MAX, escape


def destination_findings(state: JobState, shape: Shape, disks: Sequence[DiskPlan]) -> RoomFindings:
    """Returns problems and warnings: names, place, what its host lacks, room."""
    if state.replica is not None:
        return find_room(state, shape, disks, None)
    problems = list(_name_problems(state.job.placement.name))
    try:
        spec = replica_spec(state.job, state.source, "")
        place = state.sites.destination.placement_of(spec, asks_privileges=False)
    except (PlacementNotFound, PlacementAmbiguous) as error:
        return RoomFindings([*problems, f"{error.message}. {error.advice()}"])
    room = find_room(state, shape, disks, place.datastore)
    return RoomFindings([*problems, *place.unsupported, *room.problems], room.warnings)


def _name_problems(name: str) -> list[str]:
    length = len(escape(name))
    if length <= NAME_MAX:
        return []
    takes = f"vCenter takes {NAME_MAX} (slash, backslash and percent count as three)"
    return [f"the replica's name has {length} characters, and {takes}: shorten destination.name"]
