"""The steps of a night, drawn by chance: what others do, what breaks, what the operator types."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

from tests.support.night import JOB, Broken, Mover, Night, Options, Step
from tests.support.night_site import OFF, ON, Host, NightSite

CONFIRM: Options = ("--confirm", JOB)
CALLS = 160
"""Commands are killed at one of so many calls; most make fewer."""


class RandomNight(Night):
    """A night of random steps. Each method named in `STEPS` is one; it says what came of it."""

    shown = ""
    """All that the last command has shown."""

    def step(self) -> None:
        names = [name for name, weight in STEPS.items() for _ in range(weight)]
        name = self.chance.choice(names)
        act: Callable[[], str] = getattr(self, name)
        step = Step(len(self.log), name)
        self.log.append(step)
        try:
            step.result = act()
            self.remember()
            self.check()
        except BaseException as error:
            step.result += f" {error}"
            raise
        self.done[f"{name} {step.result.partition(':')[0]}" if ":" in step.result else name] += 1

    def live(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    # -- others, and bad luck ---------------------------------------------------------------

    def site(self) -> NightSite:
        return self.chance.choice([self.here, self.there])

    def cut_off(self) -> str:
        site = self.site()
        site.place.up = False
        return site.place.name

    def back(self) -> str:
        for site in (self.here, self.there):
            site.place.up = True
        return "both sites"

    def host_breaks(self) -> str:
        site, host = self.site(), self.chance.choice([Host.AWAY, Host.DOWN])
        if site.place.host is not Host.UP:
            return "no"
        site.set_host(host)
        return f"{site.place.name} {host.value}"

    def hosts_back(self) -> str:
        for site in (self.here, self.there):
            site.set_host(Host.UP)
        return "both"

    def guest_writes(self) -> str:
        return self.writes(self.site())

    def guest_hangs(self) -> str:
        vm = self.site().vm
        if vm is not None:
            vm.hangs = not vm.hangs
        return f"{vm.ref.name} {vm.hangs}" if vm is not None else "no"

    def tools(self) -> str:
        vm = self.site().vm
        if vm is not None:
            vm.tools = self.chance.random() < 0.7
        return f"{vm.ref.name} {vm.tools}" if vm is not None else "no"

    def others_start(self) -> str:
        return self._power(self.site(), ON)

    def others_stop(self) -> str:
        return self._power(self.site(), OFF)

    def one_is_stopped(self) -> str:
        """Somebody sees that both are on, and stops the one that is not in service."""
        both = [s for s in (self.here, self.there) if s.vm is not None and s.vm.on]
        stray = [s for s in both if s.place.name != self.in_service]
        return self._power(stray[0], OFF) if len(both) == 2 and stray else "no"

    def _power(self, site: NightSite, power: str) -> str:
        vm = site.vm
        if vm is None or site.place.host is Host.DOWN or vm.power == power:
            return "no"
        site.set_power(vm, power)
        return f"{vm.ref.name} {power}"

    def tidy(self) -> str:
        """A calm moment: all is connected, all guests are well, and one VM is on at most."""
        self.back()
        self.hosts_back()
        for site in (self.here, self.there):
            if site.vm is not None:
                site.vm.hangs, site.vm.tools = False, True
        return self.one_is_stopped()

    # -- commands ---------------------------------------------------------------------------

    def command(self, *words: str, mover: Mover | None = None) -> str:
        """Mostly to its end; now and then its process is killed, or loses a connection."""
        fate, left = self.chance.random(), None
        if fate < 0.25:
            left = self.chance.randrange(CALLS)
        kill = fate < 0.15
        code, text = self.type_(*words, mover=mover, left=left, kill=kill)
        self.shown = shown = " ".join(text.split())
        end = "killed" if code is None else f"exit {code}"
        return f"{end}: {' '.join(words)}: {shown[-300:]}"

    def run(self) -> str:
        return self.command("run")

    def looks(self) -> str:
        words = [("plan",), ("status",), ("status", "--live"), ("points",), ("failovers",)]
        words += [("failover", JOB, "--dry-run"), ("failover", "show", JOB)]
        return self.command(*self.chance.choice(words))

    def failover(self) -> str:
        chance, words = self.chance, ["failover", JOB]
        answer = chance.choice(["yes", "yes", "yes", "no", "no", "cancel"])
        words += ["--final-sync", answer]
        if answer == "yes":
            policy = chance.choice(["abort", "abort", "use-quiesced", "power-off"])
            words += ["--on-shutdown-timeout", policy]
        words += self.often(*CONFIRM) if answer == "no" else ()
        words += self.choice_of_point() if answer == "no" else ()
        if chance.random() < 0.2 and answer == "yes":
            words.append("--commit")
        return self.command(*words)

    def source_lost(self) -> str:
        words = ["failover", JOB, "--source-lost", "--final-sync", "no"]
        return self.command(*words, *self.often(*CONFIRM), *self.choice_of_point())

    def failback(self) -> str:
        words = ["failback", JOB, "--final-sync", self.chance.choice(["yes", "yes", "yes", "no"])]
        return self.command(*words, *(CONFIRM if "no" in words else ()))

    def resume(self) -> str:
        lost = ["--source-lost"] if self.chance.random() < 0.25 else []
        return self.command("failover", "resume", JOB, *lost)

    def undo(self) -> str:
        hard = ("--on-shutdown-timeout", "power-off")
        more = self.chance.choice(
            [(), (), (), hard, ("--even-without-source",), ("--discard-written",)]
        )
        said = self.often(*CONFIRM)
        if said and "--discard-written" in more:
            self.discards()
        return self.command("undo", JOB, *said, *more)

    def commit(self) -> str:
        return self.command("commit", JOB, *self.often(*CONFIRM))

    def adopt(self, mover: Mover | None = None) -> str:
        said = self.often(*CONFIRM)
        result = self.command("failover", "adopt", JOB, *said, mover=mover)
        if result.startswith("exit 0") and " started by " in self.shown:
            self.adopted_by_hand()
        return result

    def often(self, *words: str) -> Options:
        return words if self.chance.random() < 0.85 else ()

    def choice_of_point(self) -> Options:
        vm = self.there.vm
        if vm is None or self.chance.random() < 0.8:
            return ()
        names = [s.info.name for s in vm.snapshots]
        return ("--point", self.chance.choice(names)) if names else ()

    def advance(self) -> str:
        """An operator who wants the VM to run, and the failover to end."""
        self.back()
        self.hosts_back()
        if self.mover.lost.exists() and self.mover.find_state():
            return "state found"
        state = self.standing()
        vms = [site.vm for site in (self.here, self.there) if site.vm is not None]
        if state in ("running", "booting"):
            return self.undo() if self.chance.random() < 0.4 else self.commit()
        if state is None and self.mover.is_empty() and self.in_service == "site-b":
            return self.adopt()
        if state is not None:
            return self.resume() if self.chance.random() < 0.6 else self.undo()
        if not any(vm.on for vm in vms):
            return self._power(self.here if self.in_service == "site-a" else self.there, ON)
        if len(vms) == 2 and all(vm.on for vm in vms):
            return self.one_is_stopped()
        return self.failback() if self.in_service == "site-b" else self.run()

    def standing(self) -> str | None:
        """The state of the failover that has not ended, as the mover's journals have it."""
        code, text = self.type_("failovers", "--json")
        found = [json.loads(line) for line in text.splitlines()] if code == 0 else []
        states = [one["state"] for one in found if "state" in one]
        return next((s for s in states if s not in ("undone", "committed", "aborted")), None)

    # -- movers -----------------------------------------------------------------------------

    def state_is_lost(self) -> str:
        self.mover.lose_state()
        return "gone"

    def state_is_back(self) -> str:
        """The disk with the mover's state is there again, as it was when it was lost."""
        return "back" if self.mover.find_state() else "no"

    def state_is_copied(self) -> str:
        """As it is now, a copy that comes back later as another mover."""
        if self.old is None:
            self.old = Mover(self, "old")
        shutil.rmtree(self.old.state)
        shutil.copytree(self.mover.state, self.old.state)
        return "copied"

    def old_mover(self) -> str:
        if self.old is None:
            return "no"
        if self.chance.random() < 0.1:
            return self.adopt(self.old)
        words = self.chance.choice(
            [
                ("run",),
                ("plan",),
                ("failover", "resume", JOB),
                ("undo", JOB, *CONFIRM),
                ("commit", JOB, *CONFIRM),
                ("failover", JOB, "--final-sync", "yes"),
                ("failover", JOB, "--final-sync", "no", *CONFIRM),
                ("failback", JOB, "--final-sync", "yes"),
            ]
        )
        return self.command(*words, mover=self.old)


STEPS = {
    **dict.fromkeys(("cut_off", "host_breaks", "guest_hangs", "tools", "others_stop"), 2),
    **dict.fromkeys(("others_start", "state_is_lost", "state_is_copied"), 1),
    **dict.fromkeys(("back", "hosts_back", "one_is_stopped", "old_mover"), 3),
    **dict.fromkeys(("tidy", "resume", "undo", "commit", "failback"), 5),
    **dict.fromkeys(("run", "failover"), 6),
    "looks": 4,
    "state_is_back": 2,
    "advance": 14,
    "adopt": 3,
    "source_lost": 3,
    "guest_writes": 12,
}
"""What may happen, and how often."""

__all__ = ["STEPS", "Broken", "RandomNight"]
