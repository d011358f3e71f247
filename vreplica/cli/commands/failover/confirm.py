"""Has the operator confirm what stops or keeps a VM for good: by typing the VM's name.

Without a terminal, and with --json, `--confirm NAME` is needed: else exit code 2, nothing touched.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vreplica.cli.render.output import Output
from vreplica.cli.render.plain import prompt

if TYPE_CHECKING:
    from vreplica.config import Config

confirm_option = click.option(
    "--confirm",
    metavar="NAME",
    help="The VM's name (of a group: the group's), for what has to be confirmed; else you are asked"
    " to type it.",
)


def name_to_type(config: Config, target: str) -> str:
    """The name of the VM of a job, or of a group: what the operator types."""
    from vreplica.failover.machine.group_order import GROUP_PREFIX

    if target.startswith(GROUP_PREFIX):
        return target.removeprefix(GROUP_PREFIX)
    return config.vm_name(target)


def can_ask(out: Output) -> bool:
    """True where somebody sees the question and can answer it."""
    return not out.as_json and all(s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr))


def confirmed(out: Output, name: str, consequence: str, given: str | None) -> bool:
    """True once the operator has confirmed. False: another name was typed, nothing is to be done.

    `consequence`: what happens, in words. `given`: the value of --confirm. Raises UsageError
    where that is another name, or where nobody can be asked.
    """
    if given is not None:
        if given != name:
            raise click.UsageError(
                f"--confirm {given} is another name: this is about {name}. Nothing was changed"
            )
        return True
    if not can_ask(out):
        raise click.UsageError(f"{consequence}: add --confirm {name} to do it. Nothing was changed")
    out.warning(consequence)
    typed: str = prompt(f"Type {name} to do it, anything else to stop", default="")
    if typed.strip() == name:
        return True
    out.note("cancelled: nothing was changed")
    return False
