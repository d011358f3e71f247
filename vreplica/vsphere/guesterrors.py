"""What running something in a guest can fail with."""

from __future__ import annotations

from dataclasses import dataclass

from vreplica.errors import VSphereError


@dataclass(eq=False)
class GuestLoginRefused(VSphereError):
    template = "{operation}: the guest refuses the login, or the account may not do it"
    remedy = (
        "Set `guest.user` and `guest.password` of the job to an account of the guest itself. On "
        "Windows with UAC only the built-in Administrator has all rights in guest operations."
    )
    operation: str


@dataclass(eq=False)
class GuestOperationsUnavailable(VSphereError):
    template = "{operation}: VMware Tools in the guest do not answer ({reason})"
    remedy = "Look at the VM's console; Tools have to run, and guest operations to be allowed."
    retryable = True
    operation: str
    reason: str


@dataclass(eq=False)
class NoSpecification(VSphereError):
    template = "{host} has no customization specification {name}"
    remedy = "Known there: {known}."
    host: str
    name: str
    known: str


@dataclass(eq=False)
class CustomizationRefused(VSphereError):
    template = "the guest cannot be customized: {reason}"
    remedy = (
        'Name a specification that vCenter keeps (`spec`), or set customize = "script" with a '
        "login of the guest."
    )
    reason: str
