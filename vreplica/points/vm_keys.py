"""Names every extraConfig key that vreplica writes on a VM.

On the replica of a job:

    key                       value                                 written by       read by
    ---------------------------------------------------------------------------------------------
    vreplica.job              name of the job                       create, seed,    every command
                                                                    reprotect
    vreplica.source           instance UUID of the source VM        as above         people
    vreplica.leaf             id of the run that writes to its      run, seed,       run, plan,
                              disks; "booted by ID" of a failover;  failover         failover
                              empty when none does
    vreplica.claim            the writer that has the replica now,  run, seed,       every writer
                              JSON (sync/claim/claim.py)            failover
    vreplica.failover         the failover that has the replica,    failover         failover adopt,
                              JSON (points/failover_mark.py)                         run, plan
    vreplica.point            the recovery point, JSON              commit,          every command
    vreplica.point.disk.KEY   one disk of that point, JSON          reprotect        every command
    vreplica.seed             seed id and disk keys, JSON; empty    seed             run, plan
                              once there is a point
    vreplica.reverted         when it was last reverted to a point, run, failover    run, plan
                              ISO 8601, the destination's clock
    vreplica.side             the side branch that its snapshot is,     undo         every command
                              JSON (points/side_branch.py)
    vreplica.made             paths of disk files that the run in   run              next run
                              vreplica.leaf makes, JSON

On other VMs:

    vreplica.test             test VM: its maker and its point,     test-failover    run, retention,
                              JSON (sync/replica/test_vm.py)                         test-failover
    vreplica.made             test VM: paths of its full copies     test-failover    its clean-up
    vreplica.disconnected     original VM: id of the failover that  failover         failback
                              disconnected its network cards

A snapshot freezes these values with the disks, and a revert brings them back. These names are
stored at the sites: they never change.
"""

from __future__ import annotations

from typing import Final

JOB_KEY: Final = "vreplica.job"
"""Name of the job whose replica this VM is."""

SOURCE_KEY: Final = "vreplica.source"
"""Instance UUID of the source VM."""

LEAF_KEY: Final = "vreplica.leaf"
"""Id of the run that is writing to the replica's disks; empty when none is."""

BOOTED: Final = "booted by "
"""Prefix of the value of LEAF_KEY, before the failover's id, from right before the replica is
powered on."""

CLAIM_KEY: Final = "vreplica.claim"
"""The writer that has claimed the replica, as JSON (sync/claim/claim.py); empty when none has."""

FAILOVER_KEY: Final = "vreplica.failover"
"""The failover that has the replica, as JSON (points/failover_mark.py); empty when none has."""

POINT_KEY: Final = "vreplica.point"
"""The recovery point that the disks stand on, as JSON (points/model.py)."""

DISK_KEY: Final = "vreplica.point.disk."
"""Prefix; the key of the source's disk follows. One disk of that point, as JSON."""

SEED_KEY: Final = "vreplica.seed"
"""What a replica without a point began with, as JSON: id and keys of its seeded disks."""

REVERTED_KEY: Final = "vreplica.reverted"
"""When we last reverted the replica to a point, by the destination's clock. A power-on before
that time has left nothing on its disks."""

MADE_KEY: Final = "vreplica.made"
"""Paths of the disk files that the run in LEAF_KEY makes, as JSON, written before the files
exist. On a test VM: paths of its full copies."""

SIDE_KEY: Final = "vreplica.side"
"""On a snapshot of a replica: the side branch that it is, as JSON (points/side_branch.py)."""

TEST_KEY: Final = "vreplica.test"
"""On a test VM: who made it and on which point it stands, as JSON."""

DISCONNECTED_KEY: Final = "vreplica.disconnected"
"""On an original VM: id of the failover that disconnected its network cards."""
