"""One run of a pickled job that kills itself at a named place; `World.run_and_kill` starts it."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path

import vreplica.vsphere as vsphere
from vreplica.sync import Progress, Step, cycle, run

job, place = pickle.loads(Path(sys.argv[1]).read_bytes())
name, _, after = place.partition("+")
seen = 0


def listener(event):
    global seen
    if name == "bytes":
        hit = isinstance(event, Progress) and event.activity == "copy"
        hit = hit and event.done_bytes >= float(after) * event.total_bytes
    else:
        hit = isinstance(event, Step) and event.name == name
    if hit:
        os.kill(os.getpid(), signal.SIGKILL)


def die_after(module, attribute):
    real = getattr(module, attribute)

    def wrapped(*args, **kwargs):
        real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, attribute, wrapped)


if name == "after":
    if after == "commit":
        real = vsphere.Session.create_snapshot

        def wrapped(self, vm, title, *args):
            made = real(self, vm, title, *args)
            if not title.startswith("vreplica-"):
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        vsphere.Session.create_snapshot = wrapped
    elif after == "describe":
        real = vsphere.Session.set_extra_config

        def wrapped(self, vm, values):
            real(self, vm, values)
            if "vreplica.point" in values:
                os.kill(os.getpid(), signal.SIGKILL)

        vsphere.Session.set_extra_config = wrapped
    else:
        die_after(cycle, after)

run(job, listener=listener)
