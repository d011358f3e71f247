"""The exit codes of `vreplica-sync`, and the table that the help shows."""

from __future__ import annotations

OK = 0
FAILED = 1
PREFLIGHT = 3
WRONG_STATE = 7
"""A replica is not in the state that it should be in; both VMs of a job are on."""
DIFFERENT = 8
STOPPED = 9
"""A failover was given up by its policy, or did not get where it was asked to go."""
SUSPICIOUS = 10
RPO_VIOLATED = 11
INTERNAL = 70
"""EX_SOFTWARE of sysexits.h"""
HUNG_UP = 129
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143
FINAL = frozenset({HUNG_UP, INTERRUPTED, BROKEN_PIPE, TERMINATED})
"""After one of these no further job is begun."""

TABLE = """\
\b
Exit codes:
    0  done; verify: equal
    1  failed for a reason that has no code of its own
    2  the command line or the job file cannot be used
    3  refused before anything was changed
    4  a virtual disk could not be opened, read or written
    5  vCenter or an ESXi host refused, failed or could not be reached
    6  the required consistency level cannot be reached
    7  the replica is not in the state that it should be in; status: both VMs of a job are on
    8  source and replica differ where they must be equal
    9  a failover could not continue
   10  run: done, but the new recovery point is flagged: the change looks like mass encryption
   11  status: a job's newest point is older than its target
   70  a defect in vreplica
  130  cancelled by Ctrl-C (143: by SIGTERM, 129: by SIGHUP)
  141  the program that read the results closed the pipe
With several jobs each is worked on; the code is that of the first one that failed.
"""


def first_failure(codes: list[int]) -> int:
    """The code of several jobs: that of the first one that failed."""
    return next((code for code in codes if code), OK)
