"""Plans the next run: what it does with each disk, and why. Changes nothing.

    no replica, no point        -> full
    no point, but a seed        -> rescan, of what it was seeded with
    disk new on the source      -> full, that disk only
    disk's UUID changed         -> rescan
    disk grown or re-added      -> rescan, of a copy of what the replica has (sync/replica/shape.py)
    CBT off, reset or silent    -> rescan, or a problem where the job says so
    otherwise                   -> delta since the changeId of the latest point

The reasons follow VMware's rules for changeIds. A new tracking generation (the part before the
slash), a revert or a replaced disk makes an old changeId meaningless (KB-320557, and the API
reference of QueryChangedDiskAreas).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from vreplica.clocks import CLOCKS_APART, clock_problem
from vreplica.delta.copy.modes import CopyMode
from vreplica.errors import PreflightError
from vreplica.points import DiskPoint, Level, RecoveryPoint
from vreplica.points.clock_problems import clock_problems
from vreplica.sync.claim.claim import ClaimKind
from vreplica.sync.claim.held_claim import Claimant, require_free
from vreplica.sync.copy.digest_maps import map_problem
from vreplica.sync.copy.resume import find_resumable
from vreplica.sync.disk_plan import DiskPlan
from vreplica.sync.errors import PreflightFailed, ReplicaClaimed
from vreplica.sync.job import Job, QuiescePolicy
from vreplica.sync.job_state import JobState, read_job_state
from vreplica.sync.job_switch import why_disabled
from vreplica.sync.plan.completeness import left_out, will_have_nvram
from vreplica.sync.plan.destination import destination_findings
from vreplica.sync.plan.names import name_findings
from vreplica.sync.plan.preflight import find_problems, foreign_change_problems
from vreplica.sync.replica.foreign_changes import find_foreign_changes
from vreplica.sync.replica.shape import DiskShape, Shape, replicated_disks, shape_of
from vreplica.sync.replica.state import ReplicaState, disk_identity, snapshot_name
from vreplica.sync.report import Plan, audit_off
from vreplica.sync.run_record import Resumable
from vreplica.sync.sites import Sites, SiteSessions
from vreplica.sync.source.snapshot import quiesced_level
from vreplica.sync.transport.disks import choose_transport
from vreplica.vsphere.change_id import generation_of
from vreplica.vsphere.model import VmDisk, VmInfo
from vreplica.vsphere.session import Session


def plan(job: Job, *, sessions: SiteSessions | None = None) -> Plan:
    """Plans the run that `run(job)` would make now. `sessions`: those of other jobs, shared."""
    with Sites.open(job, sessions) as sites, sites.one_look():
        state = read_job_state(job, sites)
        found = make_plan(state)
        found = replace(found, warnings=(*found.warnings, *clock_warnings(state)))
        refusals = (why_disabled(job), why_claimed(sites.destination, state))
    problems = [f"{error.message}. {error.advice()}" for error in refusals if error is not None]
    return replace(found, problems=(*problems, *found.problems))


def why_claimed(destination: Session, state: JobState) -> PreflightError | None:
    """The error that a run would be refused with, since another writer has the replica."""
    if state.replica is None:
        return None
    nobody = Claimant(state.job.name, "", ClaimKind.RUN, "")
    try:
        require_free(destination, state.replica.vm, nobody)
    except ReplicaClaimed as error:
        return error
    return None


def check_next_run(state: JobState, known_level: Level | None = None) -> None:
    """Raises PreflightFailed where a run would be refused now. Changes nothing.

    A failover asks this before the job is switched off: its syncs are runs.
    """
    refuse_problems(make_plan(state, known_level, may_resume=False))


def check_source_alone(state: JobState) -> None:
    """As `check_next_run`, before there is a replica to look at: a failback makes it."""
    job, source = state.job, state.source
    alone = state.with_sides(source, None)
    shape = shape_of(job, source, replicated_disks(job, source), None)
    problems = find_problems(alone, shape, expected_level(job, source)[0])
    if problems:
        raise PreflightFailed(job=job.name, problems=tuple(problems)).at(vm=source.ref.name)


def refuse_problems(plan: Plan) -> None:
    """Raises PreflightFailed where the plan has problems."""
    if plan.problems:
        raise PreflightFailed(job=plan.job, problems=plan.problems).at(vm=plan.source_vm)


def clock_warnings(state: JobState) -> list[str]:
    """The sites' clocks beside this mover's, and what the newest points say of them. Sentences."""
    job, sites, found = state.job, state.sites, []
    for endpoint, session in ((job.source, sites.source), (job.destination, sites.destination)):
        told = session.refresh()
        found.append(clock_problem(endpoint.host, told, datetime.now(UTC)))
    # The times of points come from the source's host.
    ahead = sites.source.host_clock_ahead(state.source.ref)
    if abs(ahead) > CLOCKS_APART:
        told = sites.source.refresh() + ahead
        found.append(clock_problem(state.source.host or "its host", told, datetime.now(UTC)))
    newest = state.replica.points[-2:] if state.replica is not None else ()
    return [*(text for text in found if text), *clock_problems(newest, datetime.now(UTC))]


def make_plan(
    state: JobState, known_level: Level | None = None, *, may_resume: bool = True
) -> Plan:
    """Plans a run for both sides as they were read.

    `known_level`: the level of a source that is off, where a failover saw how it went down.
    """
    job, source, replica = state.job, state.source, state.replica
    shape = shape_of(job, source, replicated_disks(job, source), replica)
    disks = tuple(_plan_disk(job, disk, source, replica, shape) for disk in shape.disks)
    resumes, reason = find_resumable(state) if may_resume else (None, "")
    if job.rescan and resumes is not None and _has_delta(resumes):
        resumes, reason = None, "a rescan was asked for"
    if resumes is not None:
        disks = tuple(
            DiskPlan(d.key, d.label, d.capacity_bytes, CopyMode(d.mode), d.reason)
            for d in resumes.record.disks
        )
        # Disks that were new when that run began exist by now, and have their room.
        shape = replace(shape, disks=tuple(replace(d, new=False) for d in shape.disks))
    changes = find_foreign_changes(job, state.sites.destination, replica)
    level, warnings = expected_level(job, source, known_level)
    for disk in disks:
        if disk.digest_map_problem is not None:
            warnings.append(audit_off(disk.label, disk.digest_map_problem))
    if reason:
        warnings.append(f"an earlier run broke off and is not resumed: {reason}")
    warnings += [f"{point}" for point in (replica.damaged if replica else ())]
    renamed, notes = name_findings(state)
    room = destination_findings(state, shape, disks if resumes is None else ())
    warnings += [*notes, *room.warnings]
    problems = [
        *renamed,
        *find_problems(state, shape, level),
        *room.problems,
        *foreign_change_problems(job, replica, changes),
    ]
    return Plan(
        job=job.name,
        source_vm=source.ref.name,
        replica_vm=job.placement.name,
        replica_exists=replica is not None,
        disks=disks,
        excluded=tuple(d.label for d in source.disks if d.label in job.exclude_disks),
        transport="{}: {}".format(*choose_transport(job)),
        expected_level=level,
        base_point=replica.latest if replica else None,
        # A run that cannot start takes no steps and removes no points.
        steps=() if problems else tuple(_steps(state, shape, changes, resumes)),
        expiring=() if problems else _expiring(job, replica, level),
        warnings=tuple(warnings),
        problems=tuple(problems),
        foreign_changes=changes,
        resumes=resumes,
        not_carried=left_out(
            job,
            source,
            replica.vm if replica else None,
            has_nvram=will_have_nvram(source, replica),
        ),
    )


def _has_delta(resumes: Resumable) -> bool:
    return any(CopyMode(d.mode) is CopyMode.DELTA for d in resumes.record.disks)


def _plan_disk(
    job: Job, disk: DiskShape, vm: VmInfo, replica: ReplicaState | None, shape: Shape
) -> DiskPlan:
    mode, reason = _choose_mode(disk.disk, vm.cbt_enabled, replica)
    if disk.new:
        mode, reason = CopyMode.RESCAN if disk.origin else CopyMode.FULL, disk.reason
    elif shape.grown and mode is CopyMode.DELTA:
        mode = CopyMode.RESCAN
        reason = f"change tracking is reset, since {', '.join(shape.grown)} has grown"
    elif job.rescan and mode is CopyMode.DELTA:
        mode, reason = CopyMode.RESCAN, "a rescan of both sides was asked for"
    key, capacity_bytes, problem = disk.disk.key, disk.disk.capacity_bytes, None
    if mode is CopyMode.DELTA and replica is not None and replica.latest is not None:
        problem = map_problem(job, key, replica.latest.id, capacity_bytes)
    return DiskPlan(key, disk.disk.label, capacity_bytes, mode, reason, problem)


def _choose_mode(
    disk: VmDisk, cbt_enabled: bool, replica: ReplicaState | None
) -> tuple[CopyMode, str]:
    """The mode for a disk whose place on the replica stays, with the reason."""
    if replica is None:
        return CopyMode.FULL, "there is no replica yet"
    if replica.latest is None and disk.key in replica.seed.keys:
        return CopyMode.RESCAN, "the replica begins with what it was seeded with"
    if replica.latest is None:
        return CopyMode.FULL, "the replica has no recovery point yet"
    base = replica.latest.disk(disk.key)
    if base is None:
        return CopyMode.FULL, "the disk is not part of the latest recovery point"
    if base.uuid != disk_identity(disk):
        return CopyMode.RESCAN, (
            f"the disk was replaced: its UUID was {base.uuid}, now {disk_identity(disk)}"
        )
    return _tracking(disk, base, cbt_enabled, replica.latest)


def _tracking(
    disk: VmDisk, base: DiskPoint, cbt_enabled: bool, latest: RecoveryPoint
) -> tuple[CopyMode, str]:
    if not latest.sealed:
        return CopyMode.RESCAN, (
            f"point {latest.id} is of the first version, without a checksum: its changeId is not "
            "believed"
        )
    if base.change_id is None:
        return CopyMode.RESCAN, f"point {latest.id} was made without changed block tracking"
    if not cbt_enabled:
        return CopyMode.RESCAN, "changed block tracking is switched off on the VM"
    if disk.change_id and generation_of(disk.change_id) != generation_of(base.change_id):
        return CopyMode.RESCAN, (
            f"changed block tracking was reset: generation {generation_of(base.change_id)} "
            f"became {generation_of(disk.change_id)}"
        )
    return CopyMode.DELTA, f"changed blocks since point {latest.id} (changeId {base.change_id})"


def expected_level(
    job: Job, vm: VmInfo, known_level: Level | None = None
) -> tuple[Level, list[str]]:
    """The level that the source's snapshot should reach, and what prevents a better one."""
    if vm.power_state == "poweredOff":
        if known_level is not None:
            return known_level, []
        return Level.CRASH, [
            (
                f"{vm.ref.name} is powered off: whether its guest had shut down is not known here, "
                "so the point will say crash"
            )
        ]
    if job.quiesce is QuiescePolicy.NEVER:
        return Level.CRASH, ["quiescing is switched off in the job"]
    if not vm.tools_running:
        return Level.CRASH, [
            (
                f"VMware Tools are not running in {vm.ref.name} ({vm.tools_status}): "
                "a quiesce request would be ignored without a word"
            )
        ]
    best = quiesced_level(vm)
    if best is Level.CRASH:
        reason = f"the guest of {vm.ref.name} ({vm.guest_id}) is neither Windows nor Linux"
        return best, [f"{reason}: nothing proves that it quiesces"]
    return best, []


def _expiring(job: Job, replica: ReplicaState | None, level: Level) -> tuple[RecoveryPoint, ...]:
    """The points that retention removes after a run that makes a point of this level now."""
    if replica is None or replica.latest is None or replica.newer:
        return ()
    coming = replace(replica.latest, id="", time=datetime.now(UTC), level=level, snapshot=None)
    return tuple(job.retention.expired([*replica.points, coming]))


def _steps(
    state: JobState, shape: Shape, changes: tuple[str, ...], resumes: Resumable | None
) -> list[str]:
    job, source, replica = state.job, state.source, state.replica
    name = source.ref.name
    if resumes is not None:
        return [
            f"resume {resumes.text}",
            "make a recovery point of the replica",
            f"remove the snapshot of {name}",
        ]
    steps: list[str] = []
    if replica is not None:
        steps += [
            f"remove snapshot {s.name} of a run that had lost the replica"
            for s in replica.leftovers
        ]
    if any(s.name == snapshot_name(job.name) for s in source.snapshots):
        steps.append(f"remove the snapshot that an earlier run left on {name}")
    if source.consolidation_needed:
        steps.append(f"consolidate the disks of {name}")
    if replica is None:
        steps.append(f"create replica {job.placement.name} on {job.placement.datastore}")
    elif replica.latest and (not replica.clean or changes):
        steps.append(f"take the replica back to point {replica.latest.id}")
    steps += shape.steps()
    if shape.grown:
        steps.append(f"reset changed block tracking on {name}")
    elif not source.cbt_enabled:
        steps.append(f"enable changed block tracking on {name}")
    steps.append(f"snapshot {name}")
    steps.append("copy what differs")
    steps.append("make a recovery point of the replica")
    steps.append(f"remove the snapshot of {name}")
    return steps
