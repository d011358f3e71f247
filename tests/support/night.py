"""A night: random steps of an operator, of others and of bad luck, and a witness of all of it.

    Night     two sites in memory, the movers, what happens, the commands that are typed
    Witness   knows what is true, because it reads the model: what was written where, and what runs

The commands are the product's, from the words on. Its sessions, disks and clocks are the model's.
After each step the witness says what must hold (docs of the failover, "What always holds"):

    never both VMs on by our doing, without the words; and both on is told by the next look
    never the only running copy stopped for one that cannot run, without the words
    nothing written in service is lost: it is on a disk, in a point or in a side branch
    never a point older than the newest is booted, unless it was chosen
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol
from unittest import mock

from click.testing import CliRunner

from tests.support.night_site import ON, NightSite, NightVm, Open
from tests.support.sync_model import Killed, Steps, open_snapshot_disk
from vreplica.cli.app import app
from vreplica.delta.copy.pipeline import copy
from vreplica.delta.copy.spec import CopySpec
from vreplica.delta.copy.stats import CopyStats
from vreplica.delta.copy.transfer import RetryPolicy
from vreplica.failover import adopt, crosscheck, failback, preview, vsphere_ports
from vreplica.failover.machine import journal, runner
from vreplica.failover.machine.context import StepContext
from vreplica.points.digestmap import digest_map
from vreplica.points.digestmap.file import open_locked
from vreplica.points.vm_keys import BOOTED, LEAF_KEY
from vreplica.sync import recovery_points, sites
from vreplica.sync.claim import claim, held_claim, takeover
from vreplica.sync.copy import digest_maps, one_disk
from vreplica.sync.replica import foreign_changes, side_branches
from vreplica.units import BLOCK, SECTOR
from vreplica.vsphere.model import Endpoint

SIZE = 12 * BLOCK
JOB = "web"
PIN = "AB" * 32
INTERNAL = 70
BOTH_ON = 7

Options = tuple[str, ...]


class Broken(AssertionError):
    """Something happened that must never happen."""


class NightSteps(Steps):
    """The steps of a mover's process. At its death its files stay as they are at that moment."""

    def __init__(self, mover: Mover) -> None:
        super().__init__()
        self.mover = mover

    def __call__(self) -> None:
        was = self.dead
        try:
            super().__call__()
        except Killed:
            if not was:
                self.mover.freeze()
            raise


class Mover:
    """A machine with a job file and a state directory, and the process that runs on it now."""

    def __init__(self, night: Night, name: str) -> None:
        self.night, self.name = night, name
        self.state = night.folder / name / "state"
        self.frozen = night.folder / name / "frozen"
        self.lost = night.folder / name / "lost"
        self.file = night.folder / name / "vreplica.toml"
        self.state.mkdir(parents=True)
        self.file.write_text(night.job_file)
        self.steps = NightSteps(self)
        self.locks: list[int] = []
        self.commands = itertools.count(1)
        self.process = ""

    def connect(self, endpoint: Endpoint, **_: object) -> NightSite:
        site = self.night.here if endpoint.host == self.night.here.place.name else self.night.there
        return site.connect(self.steps)

    def freeze(self) -> None:
        """The process was killed: what it still does to its files is undone later."""
        shutil.rmtree(self.frozen, ignore_errors=True)
        shutil.copytree(self.state, self.frozen)

    def begin(self, left: int | None, *, kill: bool) -> None:
        self.process = f"{self.name}/{next(self.commands)}"
        self.steps.arm(left, kill=kill)

    def end(self) -> bool:
        """The end of the process: its locks and disks go with it. True: it was killed."""
        killed = self.steps.dead
        self.steps.arm(None, kill=False)
        self.night.ended_processes.add(self.process)
        for fd in self.locks:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
        self.locks.clear()
        for site in (self.night.here, self.night.there):
            for opened in list(site.writers.values()):
                opened.drop()
        if killed:
            shutil.rmtree(self.state)
            self.frozen.rename(self.state)
        return killed

    def failovers(self) -> list[str]:
        """The ids of those that were begun here, oldest first: ids of one second do not tell."""
        return [folder.name for folder in journal.begun_below(self.state / JOB / "failovers")]

    def is_empty(self) -> bool:
        """It knows of no failover."""
        return not self.failovers()

    def is_undone(self, failover: str) -> bool:
        found = (self.state / JOB / "failovers" / failover / "journal.jsonl").read_text()
        return '"event":"both put back"' in found or '"event":"replica put back' in found

    def lose_state(self) -> None:
        """The first loss is kept, for `find_state`."""
        if not self.lost.exists():
            self.state.rename(self.lost)
        else:
            shutil.rmtree(self.state)
        self.state.mkdir()

    def find_state(self) -> bool:
        """The state that was lost is there again, in place of what was made since."""
        if not self.lost.exists():
            return False
        shutil.rmtree(self.state)
        self.lost.rename(self.state)
        return True


JOB_FILE = f"""\
state_dir = "state"
[sites.a]
host = "site-a"
user = "u"
password = {{ env = "NIGHT_PASSWORD" }}
sha256 = "{PIN}"
[sites.b]
host = "site-b"
user = "u"
password = {{ env = "NIGHT_PASSWORD" }}
sha256 = "{PIN}"
[jobs.{JOB}]
source = {{ site = "a", vm = "web" }}
destination = {{ site = "b", datastore = "ds", name = "web-replica" }}
transport = "vddk"
keep = 4
on_cbt_loss = "rescan"
"""


@dataclass
class Token:
    """Something that a guest wrote, and that is to be found for ever."""

    slot: int
    text: bytes
    who: str
    stray: bool
    """Written while the VM was in service elsewhere."""
    given_up: str = ""
    """The word by which somebody has accepted that it is lost."""

    accepted: str = ""
    """The same, and it stays when the VM that has it is in service again."""

    def give_up(self, why: str) -> None:
        self.given_up = self.accepted = why

    def __str__(self) -> str:
        return f"what {self.who} wrote as number {self.slot}"


@dataclass
class Words:
    """What the operator said in the command that is being carried out, and in this failover."""

    source_lost: bool = False
    even_without_source: bool = False
    point_chosen: bool = False

    def add(self, words: Options) -> None:
        self.source_lost |= "--source-lost" in words
        self.even_without_source |= "--even-without-source" in words
        self.point_chosen |= bool({"--point", "--prefer", "--as-of"} & set(words))


@dataclass
class Step:
    """A step of the night, as it went."""

    number: int
    what: str
    result: str = ""

    def __str__(self) -> str:
        return f"{self.number}: {self.what}: {self.result}"


class Night:
    """Two sites, the movers, and the witness."""

    job_file = JOB_FILE

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.chance = random.Random(seed)
        self.here, self.there = self.make_sites()
        self.ended_processes: set[str] = set()
        self.mover = Mover(self, "a")
        self.old: Mover | None = None
        self.acting: Mover = self.mover
        self.tokens: list[Token] = []
        self.words = Words()
        """Of the command that runs."""
        self.verb = ""
        self.failover_words: dict[str, Words] = {}
        """By the id of a failover: all that was said for it."""
        self.undone: set[str] = set()
        self.booted: set[str] = set()
        """The ids of the failovers that have booted a VM."""
        self.in_service = "site-a"
        """Where the VM works for its users, as far as the product was let to move it."""
        self.log: list[Step] = []
        self.done: Counter[str] = Counter()
        self.told = ""
        self.trouble: list[str] = []
        """What the witness saw inside of a command."""
        for site in (self.here, self.there):
            site.place.witness = self

    def make_sites(self) -> tuple[NightSite, NightSite]:
        here = NightSite("site-a")
        source = here.add_vm("web", cbt=False, bios_uuid="b-1", power=ON)
        here.add_disk(source, 2000, bytes(SIZE))
        return here, NightSite("site-b")

    # -- typing commands --------------------------------------------------------------------

    def type_(
        self, *words: str, mover: Mover | None = None, left: int | None = None, kill: bool = True
    ) -> tuple[int | None, str]:
        """The exit code and all that is shown; None: the process was killed at step `left`."""
        self.acting = mover or self.mover
        self.words, self.verb = Words(), words[1] if words[1:2] == ("resume",) else words[0]
        self.words.add(words)
        known = set(self.acting.failovers())
        self.acting.begin(left, kill=kill)
        result = CliRunner().invoke(app, [*words, "-c", str(self.acting.file)])
        killed = self.acting.end()
        self.note_words(known)
        self.words = Words()
        if not killed and result.exit_code == INTERNAL:
            raise Broken(f"a defect: {result.output}")
        if not killed and result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        if self.trouble:
            raise Broken(f"{'; '.join(self.trouble)}: {' '.join(words)}: {result.output}")
        return (None if killed else result.exit_code), result.output

    # -- the witness, at each effect of the product -----------------------------------------

    def other(self, site: NightSite) -> NightSite:
        return self.there if site.place is self.here.place else self.here

    def said(self, failover: str | None) -> Words:
        """What was said in this command, and before it in this failover."""
        found = Words(**vars(self.words))
        if before := self.failover_words.get(failover or ""):
            found.source_lost |= before.source_lost
            found.point_chosen |= before.point_chosen
        return found

    def note_words(self, known: set[str]) -> None:
        """Keeps what was said with the failover that it was said for. `known`: those before."""
        newest = next(reversed(self.acting.failovers()), None)
        if newest is not None and (newest not in known or self.verb == "resume"):
            kept = self.failover_words.setdefault(newest, Words())
            kept.source_lost |= self.words.source_lost
            kept.point_chosen |= self.words.point_chosen
        if newest is not None and newest not in self.undone and self.acting.is_undone(newest):
            self.undone.add(newest)
            self.in_service = "site-b" if newest.startswith("fb-") else "site-a"

    def before_stop(self, site: NightSite, vm: NightVm, how: str) -> None:
        other = self.other(site)
        twin = other.vm
        if how == "revert":
            self.trouble.append(f"{vm.ref.name} was on and was reverted")
        if twin is not None and twin.on:
            return
        if self.words.even_without_source or other.usable:
            return
        self.trouble.append(
            f"{vm.ref.name}, the only copy that runs, is to be stopped ({how}), and "
            f"{other.place.name} cannot run the other one"
        )

    def before_start(self, site: NightSite, vm: NightVm) -> None:
        twin = self.other(site).vm
        failover = self.booted_by(vm)
        said = self.said(failover)
        if twin is not None and twin.on and not said.source_lost and not said.even_without_source:
            self.trouble.append(f"{vm.ref.name} is started beside {twin.ref.name}, which is on")
        self.in_service = site.place.name
        if failover is None or failover in self.booted or self.verb == "undo":
            # Put in service again: what had been left behind once is left behind again.
            for token in self.tokens:
                if not holds(next(iter(vm.disks.values())).content, token):
                    token.given_up = token.accepted
            return
        self.booted.add(failover)
        points = [s for s in vm.snapshots if is_point(s.info.name)]
        booted = next((s for s in vm.snapshots if s.info.moref == vm.current), None)
        assert booted is not None, "a replica stands on a snapshot"
        if booted.info.moref != points[-1].info.moref and not said.point_chosen:
            newest = points[-1].info.name
            self.trouble.append(f"{booted.info.name} boots, and {newest} is newer")
        final = booted.info.name == f"{failover}-b"
        self.check_whole(vm, booted.info.name, twin, final=final)

    def check_whole(self, vm: NightVm, booted: str, twin: NightVm | None, *, final: bool) -> None:
        """What boots has all that its source has, or somebody has accepted the loss."""
        if twin is None:
            return
        disk, left = next(iter(vm.disks.values())), next(iter(twin.disks.values()))
        for token in self.tokens:
            if token.given_up or not holds(left.content, token) or holds(disk.content, token):
                continue
            if final and not token.stray:
                self.trouble.append(f"{booted} is of a final sync, and has no {token}")
            token.give_up(f"left at its source when {booted} booted")

    def adopted_by_hand(self) -> None:
        """The replica that somebody had started is in service from now on, by the operator's word:
        so is what it does not have of its source."""
        self.in_service = "site-b"
        if self.there.vm is not None:
            self.check_whole(self.there.vm, "by hand", self.here.vm, final=False)

    @staticmethod
    def booted_by(vm: NightVm) -> str | None:
        leaf = vm.extra.get(LEAF_KEY, "")
        return leaf.removeprefix(BOOTED) if leaf.startswith(BOOTED) else None

    # -- the witness, after each step -------------------------------------------------------

    def check(self) -> None:
        self.check_tokens()
        self.check_alarm()

    def every_content(self) -> Iterator[bytearray | Layers]:
        for site in (self.here, self.there):
            for disk in site.every_disk():
                yield disk.content

    def check_tokens(self) -> None:
        contents = list(self.every_content())
        for token in self.tokens:
            found = any(holds(content, token) for content in contents)
            if not found and not token.given_up:
                raise Broken(f"lost: {token}")

    def check_alarm(self) -> None:
        both = [site.vm for site in (self.here, self.there) if site.vm is not None and site.vm.on]
        if len(both) < 2:
            self.told = ""
            return
        state = f"{self.here.usable} {self.there.usable}"
        if not (self.here.usable and self.there.usable) or self.told == state:
            return
        self.told = state
        code, text = self.type_("status", "--live")
        if code != BOTH_ON or "BOTH VMs are on" not in " ".join(text.split()):
            raise Broken(f"both are on, and status says {code}: {text}")

    # -- what others do ---------------------------------------------------------------------

    def writes(self, site: NightSite) -> str:
        vm = site.vm
        if vm is None or not vm.on or len(self.tokens) * SECTOR >= SIZE - SECTOR:
            return "no"
        text = f"{site.place.name} {len(self.tokens)} ".encode().ljust(SECTOR, b".")
        stray = self.in_service != site.place.name and self.moved
        token = Token(len(self.tokens), text, vm.ref.name, stray)
        if stray:
            token.give_up("written while the VM was in service elsewhere")
        self.tokens.append(token)
        next(iter(vm.disks.values())).write(token.slot * SECTOR, text)
        return text.decode().rstrip(".")

    @property
    def moved(self) -> bool:
        """A replica was booted by a failover, some time."""
        return any(
            self.booted_by(site.vm) for site in (self.here, self.there) if site.vm is not None
        )

    def discards(self) -> None:
        """The operator throws away what the replica in service has written."""
        site = self.here if self.in_service == "site-a" else self.there
        vm = site.vm
        for token in self.tokens if vm is not None else ():
            if holds(next(iter(vm.disks.values())).content, token):
                token.give_up("--discard-written")

    def remember(self) -> None:
        """After a step: what the VM in service has was not given up, after all."""
        on = [s for s in (self.here, self.there) if s.vm is not None and s.vm.on]
        if len(on) != 1 or on[0].place.name != self.in_service:
            return
        assert on[0].vm is not None, "it is on"
        content = next(iter(on[0].vm.disks.values())).content
        for token in self.tokens:
            if token.given_up and holds(content, token):
                token.given_up, token.stray = "", False


class Layers(Protocol):
    """A disk of which no more is known than whether something is on it."""

    def has(self, text: bytes) -> bool: ...


def holds(content: bytearray | Layers, token: Token) -> bool:
    if not isinstance(content, bytearray):
        return content.has(token.text)
    at = token.slot * SECTOR
    return content[at : at + SECTOR] == token.text


def is_point(name: str) -> bool:
    return not name.startswith(("un-", "vreplica-", "by hand"))


@contextmanager
def on_the_night(night: Night) -> Iterator[None]:
    """Everything is real but the sites, the disks, the clocks' waiting, and the processes' end."""
    ticks = itertools.count()

    def connect(endpoint: Endpoint, **more: object) -> NightSite:
        return night.acting.connect(endpoint, **more)

    def opened(*, read_only: bool) -> Callable[..., Open]:
        def open_(job: Any, site: NightSite, ref: Any, disk: Any, *, on_reopen: Any = None) -> Open:
            found = site._vm(ref).disks.get(disk.key)
            parents = found.parents if found is not None else ()
            return Open(site, disk, parents, read_only=read_only, on_reopen=on_reopen)

        return open_

    def lock(path: Path, flags: int) -> int:
        fd = open_locked(path, flags)
        night.acting.locks.append(fd)
        return fd

    def small(spec: CopySpec) -> CopyStats:
        return copy(replace(spec, io_size=BLOCK, batch_size=2 * BLOCK, depth=1))

    def steps(*args: Any, **kwargs: Any) -> StepContext:
        return StepContext(
            *args, clock=lambda: float(next(ticks) * 20), sleep=lambda _: None, **kwargs
        )

    def is_gone(process: str) -> bool:
        same = process.partition("/")[0] == night.acting.name
        return same and process in night.ended_processes

    impatient = SimpleNamespace(
        monotonic=lambda: float(next(ticks) * 100), sleep=lambda _: None, time=time.time
    )
    with ExitStack() as stack:
        for module in (
            *(sites, recovery_points, side_branches),
            *(vsphere_ports, failback, preview, crosscheck, adopt),
        ):
            stack.enter_context(mock.patch.object(module, "connect", connect))
        for target, name, value in (
            (claim, "this_process", lambda: night.acting.process),
            (claim, "is_gone", is_gone),
            (held_claim, "this_process", lambda: night.acting.process),
            (takeover, "WAIT_S", 0.0),
            (takeover, "PAUSE_S", 0.0),
            (one_disk, "open_snapshot_disk", open_snapshot_disk),
            (one_disk, "open_leaf", opened(read_only=False)),
            (takeover, "open_leaf", opened(read_only=False)),
            (foreign_changes, "open_current", opened(read_only=True)),
            (digest_maps, "open_current", opened(read_only=True)),
            (one_disk, "copy", small),
            (one_disk, "RETRY", RetryPolicy(attempts=1)),
            (one_disk, "CHECKPOINT_S", 0.0),
            (digest_map, "open_locked", lock),
            (os, "fsync", lambda _: night.acting.steps.local()),
            (runner, "StepContext", steps),
            (journal, "time", impatient),
            (vsphere_ports, "time", impatient),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        stack.enter_context(mock.patch.dict(os.environ, {"NIGHT_PASSWORD": "x"}))
        yield
