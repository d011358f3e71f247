"""Both sides put back: after a run that was killed, and when one fails.

the source     our snapshot on it goes; tracking is as this run found it
the replica    disks and hardware of its latest point; files that the run had made are deleted
"""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.errors import VReplicaError
from vreplica.points.vm_keys import LEAF_KEY
from vreplica.sync.events import Listener, Step
from vreplica.sync.job import Job
from vreplica.sync.replica.orphan_files import delete_unused, made_by_run, remember_unused
from vreplica.sync.replica.state import (
    ReplicaState,
    find_replica,
    put_on,
    read_replica,
    snapshot_name,
)
from vreplica.sync.sites import Sites
from vreplica.vsphere.model import VmInfo


@dataclass(frozen=True, slots=True)
class Mending:
    """`recovered`: what was found and mended, in words; the run's report has it."""

    job: Job
    sites: Sites
    listener: Listener
    recovered: list[str]

    # -- what a run that was killed has left ---------------------------------------------------

    def clear_source(self, vm: VmInfo) -> VmInfo:
        """Remove our snapshot from the source."""
        leftovers = [s for s in vm.snapshots if s.name == snapshot_name(self.job.name)]
        for snapshot in leftovers:
            text = f"removing the snapshot that an earlier run left on {vm.ref.name}"
            self.listener(Step("mend", text))
            self.sites.source.remove_snapshot(vm.ref, snapshot.moref)
            self.recovered.append(f"removed a snapshot left on {vm.ref.name}")
        return self.sites.source.read_vm(vm.ref) if leftovers else vm

    def take_back(self, replica: ReplicaState) -> ReplicaState:
        """The replica on its latest point."""
        name, latest = replica.vm.ref.name, replica.latest
        if latest is None or latest.snapshot is None:
            self.recovered.append(f"replica {name} had no recovery point yet; it is filled anew")
            return replica
        self.listener(Step("mend", f"taking replica {name} back to point {latest.id}"))
        back = self._revert(replica, latest.snapshot)
        self.recovered.append(f"took replica {name} back to point {latest.id}")
        return back

    # -- when this run fails -------------------------------------------------------------------

    def put_back_source(self, vm: VmInfo) -> str:
        """`vm`: as it was before this run changed anything. Returns how it is now, in words."""
        source = self.sites.source
        try:
            now = source.read_vm(vm.ref)
            for snapshot in now.snapshots:
                if snapshot.name == snapshot_name(self.job.name):
                    source.remove_snapshot(vm.ref, snapshot.moref)
        except VReplicaError as error:
            return f"our snapshot may still be there, the next run removes it ({error.message})"
        if now.cbt_enabled and not vm.cbt_enabled:
            try:
                source.disable_cbt(vm.ref)
            except VReplicaError as error:
                return f"no snapshot of ours on it, but CBT was left enabled ({error.message})"
        return "as before, no snapshot of ours on it"

    def put_back_replica(self, run_id: str) -> str:
        """Returns how it is now, in words."""
        try:
            replica = find_replica(self.sites.destination, self.job)
            if replica is None:
                return "there is none"
            for newer in replica.newer:
                return f"left as it is: {newer}"
            if replica.latest is None:
                # Ours and still empty-handed: no snapshot, also none that we cannot read.
                ours = replica.vm.extra_config.get(LEAF_KEY) == run_id and not replica.seed[0]
                if ours and not replica.vm.snapshots:
                    self.sites.destination.destroy_vm(replica.vm.ref)
                    return "what this run had begun was removed again"
                return "no recovery point yet; the next run fills it anew"
            if not replica.clean and replica.latest.snapshot is not None:
                self._revert(replica, replica.latest.snapshot)
            return f"at recovery point {replica.latest.id}"
        except (VReplicaError, OSError) as error:
            return f"the next run takes it back to its latest recovery point ({error})"

    def _revert(self, replica: ReplicaState, snapshot: str) -> ReplicaState:
        """Disks and hardware as the snapshot has them; files that a run had made are deleted."""
        destination = self.sites.destination
        # The revert takes the names of the files back, too.
        remember_unused(self.job, made_by_run(replica))
        put_on(destination, replica.vm.ref, snapshot)
        back = read_replica(destination, self.job, replica.vm.ref)
        delete_unused(self.job, destination, back, self.listener)
        return back
