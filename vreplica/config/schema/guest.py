"""`[jobs.NAME.guest]`: the account for scripts in the guest, and its addresses by site."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, model_validator

from vreplica.config.schema.base import Model, Secret, Switch, Text, problem

LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def _address(value: str) -> str:
    try:
        return _without_zone(value, str(ipaddress.ip_address(value)))
    except ValueError:
        raise problem("is not an IP address", 'Write it as "10.2.0.1".') from None


def _interface(value: str) -> str:
    try:
        found = ipaddress.ip_interface(value)
    except ValueError:
        raise problem("is not an IP address", 'Write it as "10.2.0.5/24".') from None
    if "/" not in value:
        raise problem("has no prefix length", 'Write it as "10.2.0.5/24".')
    return _without_zone(value, str(found))


def _without_zone(value: str, address: str) -> str:
    """A zone (fe80::1%eth0) is of one machine, and may be any text."""
    if "%" in value:
        raise problem("has a zone", "Leave the % and what follows it out.")
    return address


def _domain(value: str) -> str:
    if not re.fullmatch(rf"{LABEL}(?:\.{LABEL})*", value):
        raise problem("is not a domain", 'Write it as "example.com": letters, digits, dashes.')
    return value


def _hostname(value: str) -> str:
    if not re.fullmatch(LABEL, value):
        raise problem(
            "is not a host name", "Use letters, digits and dashes; the domain has its own key."
        )
    return value


Address = Annotated[str, AfterValidator(_address)]
Interface = Annotated[str, AfterValidator(_interface)]
Domain = Annotated[str, AfterValidator(_domain)]
HostName = Annotated[str, AfterValidator(_hostname)]


class NicTable(Model):
    """A network card, in the order of the VM's cards: a fixed address, or DHCP."""

    ip: Interface | None = None
    """Address with prefix length: "10.2.0.5/24"."""
    dhcp: Switch = False
    gateway: Address | None = None
    dns: tuple[Address, ...] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> NicTable:
        if self.dhcp == (self.ip is not None):
            raise problem(
                "needs either an address or DHCP", 'Give ip = "10.2.0.5/24" or dhcp = true.'
            )
        return self


class GuestRulesTable(Model):
    """The guest's host name and addresses at one site, and how they reach the guest."""

    customize: Literal["spec", "script"] | None = None
    """spec: by vCenter (Linux guests); script: by VMware Tools (any guest)."""
    spec: Text | None = None
    """The name of a customization specification in the site's vCenter, instead of rules."""
    hostname: HostName | None = None
    domain: Domain | None = None
    nics: tuple[NicTable, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        rules = bool(self.hostname or self.nics)
        if self.spec is not None and (rules or self.customize == "script"):
            raise problem(
                "names a specification of vCenter beside rules of its own",
                "Give spec alone, or hostname and nics with customize.",
            )
        if rules and self.customize is None:
            raise problem(
                "does not say how its rules reach the guest",
                'Set customize = "spec" (vCenter, Linux guests) or "script" (Tools, any guest).',
            )
        if self.customize is not None and not rules and self.spec is None:
            raise problem(
                "has customize, but no rules",
                'Give hostname, nics = [{ ip = "10.2.0.5/24" }], or spec = "NAME".',
            )
        if self.customize == "spec" and rules and not self.hostname:
            raise problem(
                "has no hostname, which a specification needs", 'Give hostname = "web01".'
            )
        return self


class GuestTable(GuestRulesTable):
    """The guest's account for scripts, and its rules at the destination."""

    user: Text | None = None
    password: Secret | None = None
    failback: GuestRulesTable | None = None
    """Rules for the guest back at its original site."""

    @model_validator(mode="after")
    def _has_its_login(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise problem("has a user or a password, but not both", "Give both or none.")
        customized_by = {self.customize, self.failback.customize if self.failback else None}
        if "script" in customized_by and self.user is None:
            raise problem("has no login for its script", "Give user and password of the guest.")
        return self
