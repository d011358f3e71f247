"""One run of a pickled job that kills or stops itself at a named place.

runner.py FILE [SIGNAL]      SIGKILL; SIGSTOP: once, and it goes on when it gets SIGCONT
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path

from vreplica.sync import cycle
from vreplica.sync.copy import one_disk
from vreplica.sync.cycle import run
from vreplica.sync.events import Progress, Step
from vreplica.vsphere import session as vsphere_session

job, place, checkpoint_s = pickle.loads(Path(sys.argv[1]).read_bytes())
if checkpoint_s is not None:
    one_disk.CHECKPOINT_S = checkpoint_s
name, _, after = place.partition("+")
left = [signal.Signals[sys.argv[2]] if len(sys.argv) > 2 else signal.SIGKILL]


def strike():
    if left:
        os.kill(os.getpid(), left.pop())


def listener(event):
    if name == "bytes":
        hit = isinstance(event, Progress) and event.activity == "copy"
        hit = hit and event.done_bytes >= float(after) * event.total_bytes
    else:
        hit = isinstance(event, Step) and event.name == name
    if hit:
        strike()


class Deadly:
    """The replica's disk, whose write after so many kills the process."""

    def __init__(self, disk, writes):
        self.disk, self.left = disk, writes

    def __getattr__(self, name):
        return getattr(self.disk, name)

    def write_many(self, requests):
        self.left -= 1
        if self.left < 0:
            strike()
        self.disk.write_many(requests)


def die_after(module, attribute):
    real = getattr(module, attribute)

    def wrapped(*args, **kwargs):
        real(*args, **kwargs)
        strike()

    setattr(module, attribute, wrapped)


if name == "writes":
    open_leaf = one_disk.open_leaf
    one_disk.open_leaf = lambda *a, **k: Deadly(open_leaf(*a, **k), int(after))
if name == "after":
    if after == "commit":
        real = vsphere_session.Session.create_snapshot

        def wrapped(self, vm, title, *args):
            made = real(self, vm, title, *args)
            if not title.startswith("vreplica-"):
                strike()
            return made

        vsphere_session.Session.create_snapshot = wrapped
    elif after == "describe":
        real = vsphere_session.Session.set_extra_config

        def wrapped(self, vm, values, **more):
            real(self, vm, values, **more)
            if "vreplica.point" in values:
                strike()

        vsphere_session.Session.set_extra_config = wrapped
    else:
        die_after(cycle, after)

run(job, listener=listener)
