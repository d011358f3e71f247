"""Says which step takes a failover out of which state.

A step looks first whether its work is done already, acts, and looks again. It returns the event
that it saw, with the facts that go with it. So a step that is repeated after a crash finds its own
work done and changes nothing.

    READY          switch the job off; a failback: keep the original VM's last state
    DISABLED       recovery point A                     no final sync, off or lost: to SOURCE_OFF
    INSURED        ask the guest to shut down           no Tools: the policy
    SHUTTING_DOWN  wait until the source is off         time over: the policy
    SOURCE_OFF     choose the point to boot: B by a final sync, A, or the operator's choice
    SYNCED         fence: the source is off right now, the replica is on its point
    FENCED         prepare the guest's customization, check the source again, start the replica
    BOOTING        wait for the heartbeat; addresses and host name by script
    COMMITTING     settle the direction in which the job replicates
    KEEPING        the replica's guest is shut down, its disks kept as a side branch
    UNDOING        replica off, source on, replica back on its point, job on

RUNNING has no step: it waits for the operator's commit or undo.
"""

from __future__ import annotations

from typing import Final

from vreplica.failover.machine.context import FailoverStep
from vreplica.failover.machine.states import FailoverState
from vreplica.failover.machine.steps.boot_point import choose_boot_point
from vreplica.failover.machine.steps.fence import fence_source
from vreplica.failover.machine.steps.finish import put_both_back, settle_direction
from vreplica.failover.machine.steps.keep import keep_written
from vreplica.failover.machine.steps.prepare import disable_job, make_point_a
from vreplica.failover.machine.steps.shutdown import shut_down_guest, wait_for_shutdown
from vreplica.failover.machine.steps.start import start_replica, wait_for_heartbeat

STEPS: Final[dict[FailoverState, FailoverStep]] = {
    FailoverState.READY: disable_job,
    FailoverState.DISABLED: make_point_a,
    FailoverState.INSURED: shut_down_guest,
    FailoverState.SHUTTING_DOWN: wait_for_shutdown,
    FailoverState.SOURCE_OFF: choose_boot_point,
    FailoverState.SYNCED: fence_source,
    FailoverState.FENCED: start_replica,
    FailoverState.BOOTING: wait_for_heartbeat,
    FailoverState.COMMITTING: settle_direction,
    FailoverState.KEEPING: keep_written,
    FailoverState.UNDOING: put_both_back,
}
