"""Rolls both sides back: what a killed run has left, and what a failing run has begun.

the source     our snapshot is removed, and merged; change tracking is as this run found it
the replica    disks and hardware of its latest point; files that the run had made are deleted
"""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.errors import VReplicaError
from vreplica.points import RecoveryPoint
from vreplica.points.vm_keys import LEAF_KEY
from vreplica.sync.replica.orphan_files import delete_unused, made_by_run, remember_unused
from vreplica.sync.replica.state import (
    ReplicaState,
    find_replica,
    is_for_replica,
    read_replica,
    revert_to_point,
    run_mark,
    snapshot_name,
)
from vreplica.sync.run_context import RunContext
from vreplica.vsphere.model import SnapshotInfo, VmInfo


@dataclass(frozen=True, slots=True)
class Rollback:
    """The rollback of one run."""

    context: RunContext

    # -- what a run that was killed has left ---------------------------------------------------

    def remove_left_snapshot(self, source: VmInfo) -> VmInfo:
        """Removes our snapshot from the source. Returns the source as it is then.

        Called once the replica is claimed: whoever took the snapshot has no claim any more.
        """
        context, name = self.context, source.ref.name
        ours = [
            s
            for s in source.snapshots
            if s.name == snapshot_name(context.job.name)
            and is_for_replica(s, context.replica, context.replica_before)
        ]
        for snapshot in ours:
            context.step("rollback", f"removing the snapshot that an earlier run left on {name}")
            context.sites.source.remove_snapshot(source.ref, snapshot.moref)
            context.recovered.append(f"removed a snapshot left on {name}")
        return context.sites.source.read_vm(source.ref) if ours else source

    def consolidate_source(self, source: VmInfo) -> VmInfo:
        """Merges disk files that an interrupted removal of a snapshot left on the source.

        Returns the source as it is then. Raises ConsolidationFailed where a file is still locked.
        """
        if not source.consolidation_needed:
            return source
        context, name = self.context, source.ref.name
        context.step("rollback", f"consolidating the disks of {name}")
        context.sites.source.consolidate(source.ref)
        context.recovered.append(f"consolidated the disks of {name}")
        return context.sites.source.read_vm(source.ref)

    def consolidate_replica(self, replica: ReplicaState) -> ReplicaState:
        """The same for the replica. There it may fail: a run works on unmerged files as well."""
        if not replica.vm.consolidation_needed:
            return replica
        context, vm = self.context, replica.vm.ref
        destination = context.sites.destination
        context.step("rollback", f"consolidating the disks of {vm.name}")
        try:
            destination.consolidate(vm)
        except VReplicaError as error:
            context.warn(f"the next run consolidates the disks of {vm.name}: {error.message}")
        return read_replica(destination, context.job, vm)

    def remove_leftovers(self, replica: ReplicaState) -> ReplicaState:
        """Removes what a writer made after it had lost the replica. Returns it as it is then."""
        context, vm = self.context, replica.vm.ref
        for snapshot in replica.leftovers:
            text = f"snapshot {snapshot.name} of {vm.name}, made by a run that had lost the replica"
            context.step("rollback", f"removing {text}")
            context.sites.destination.remove_snapshot(vm, snapshot.moref)
            context.recovered.append(f"removed {text}")
        if not replica.leftovers:
            return replica
        return read_replica(context.sites.destination, context.job, vm)

    def revert_to_latest_point(self, replica: ReplicaState) -> ReplicaState:
        """Takes the replica back to its latest point. Returns it as it is then."""
        context, name, latest = self.context, replica.vm.ref.name, replica.latest
        if latest is None:
            text = f"replica {name} had no recovery point yet; it is filled anew"
            context.recovered.append(text)
            return replica
        context.step("rollback", f"taking replica {name} back to point {latest.id}")
        reverted = self._revert(replica, latest)
        context.recovered.append(f"took replica {name} back to point {latest.id}")
        return reverted

    # -- when this run fails -------------------------------------------------------------------

    def restore_source(self, before: VmInfo) -> str:
        """Restores the source as it was `before` this run. Returns its state, in words."""
        source, ours = self.context.sites.source, snapshot_name(self.context.job.name)
        try:
            now = source.read_vm(before.ref)
            for snapshot in now.snapshots:
                if snapshot.name == ours and self._is_of_this_run(snapshot):
                    source.remove_snapshot(before.ref, snapshot.moref)
        except VReplicaError as error:
            return f"our snapshot may still be there, the next run removes it ({error.message})"
        if now.cbt_enabled and not before.cbt_enabled:
            try:
                source.disable_cbt(before.ref)
            except VReplicaError as error:
                return f"no snapshot of ours on it, but CBT was left enabled ({error.message})"
        return "as before, no snapshot of ours on it"

    def _is_of_this_run(self, snapshot: SnapshotInfo) -> bool:
        """True where this run took it, also where the answer to that was lost."""
        own = self.context.source_snapshot
        return snapshot.moref == own or run_mark(self.context.run_id) in snapshot.description

    def leave_to_new_owner(self, source: VmInfo) -> str:
        """Removes this run's snapshot alone: all else belongs to the writer that took over."""
        moref = self.context.source_snapshot
        if moref is None:
            return "left to the new owner of the replica"
        try:
            self.context.sites.source.remove_snapshot(source.ref, moref)
        except VReplicaError as error:
            return f"our snapshot may still be there, the next run removes it ({error.message})"
        return "this run's snapshot was removed; all else is left to the new owner of the replica"

    def restore_replica(self) -> str:
        """Takes the replica back to its latest point. Returns its state, in words."""
        context, destination = self.context, self.context.sites.destination
        try:
            replica = find_replica(destination, context.job)
            if replica is None:
                return "there is none"
            for newer in replica.newer:
                return f"left as it is: {newer}"
            if context.held is None:
                return "left as it is: this run had not claimed it"
            context.claim.observe(replica.vm)
            replica = self.remove_leftovers(replica)
            if replica.latest is None:
                # Only one that this run has begun, without a snapshot that might hold a point.
                leaf = replica.vm.extra_config.get(LEAF_KEY)
                begun = leaf == context.run_id and not replica.seed.id
                if begun and not replica.vm.snapshots:
                    destination.destroy_vm(replica.vm.ref)
                    context.forget_claim()
                    return "what this run had begun was removed again"
                return "no recovery point yet; the next run fills it anew"
            if not context.replica_changed:
                # Nothing was written: the mark goes with the claim.
                return f"at recovery point {replica.latest.id}"
            if not replica.clean:
                self._revert(replica, replica.latest)
            return f"at recovery point {replica.latest.id}"
        except (VReplicaError, OSError) as error:
            return f"the next run takes it back to its latest recovery point ({error})"

    def _revert(self, replica: ReplicaState, point: RecoveryPoint) -> ReplicaState:
        """Reverts disks and hardware to the point, and deletes files that a run had made."""
        context, destination = self.context, self.context.sites.destination
        snapshot = replica.snapshot_of(point)
        assert snapshot is not None, "the snapshots of points that were read are known"
        # The revert takes the names of the files back, too.
        remember_unused(context.job, made_by_run(replica))
        revert_to_point(destination, context.claim, snapshot, context.marks)
        context.leaf_marked = False
        reverted = read_replica(destination, context.job, replica.vm.ref)
        delete_unused(context, reverted)
        return reverted
