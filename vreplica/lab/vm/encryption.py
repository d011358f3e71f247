"""Encryption of VMs: the key of the home, of disks, and of a virtual TPM.

    ConfigSpec.crypto = CryptoSpecEncrypt(key)               the home; config.keyId shows its key
    VirtualDeviceConfigSpec.backing.crypto, or its profile   a disk; backing.keyId shows its key
    vmProfile with the id of the setting encryption_policy   the home
    a virtual TPM                                            needs EFI, and encrypts the home

Contents are not really encrypted: hosts decrypt below NFC, so a client with the privilege
`Cryptographer.Access` reads plain blocks of a VM and of its disks. Keys come from the provider that
the setting key_provider names; without one a host has no key (EncryptionKeyRequired).
"""

from __future__ import annotations

import uuid
from typing import Any

from vreplica.lab import hardware
from vreplica.lab.api.vmodl import fault, invalid_power_state, vim
from vreplica.lab.context import SiteContext

ACCESS = "Cryptographer.Access"
"""The privilege to read the disks of an encrypted VM (VMware: "Direct Access")."""

crypto: Any = vim.encryption


def new_key(site: SiteContext) -> Any:
    """A new key of the site's provider. Raises EncryptionKeyRequired where there is none."""
    provider = site.settings.key_provider
    if not provider:
        raise key_required()
    made = crypto.CryptoKeyId(keyId=str(uuid.uuid4()))
    made.providerId = crypto.KeyProviderId(id=provider)
    return made


def key_required(key: Any = None) -> Any:
    """The fault EncryptionKeyRequired, to be raised."""
    text = "The host has no key: no key provider is configured, or the key is not available."
    return fault(vim.fault.EncryptionKeyRequired, text, requiredKey=[key] if key else [])


def _asked_key(site: SiteContext, spec: Any) -> Any:
    """The key that a CryptoSpec asks for. Raises EncryptionKeyRequired for an unknown provider."""
    wanted = spec.cryptoKeyId
    provider = wanted.providerId.id if wanted.providerId is not None else None
    if provider not in (None, "", site.settings.key_provider) or not site.settings.key_provider:
        raise key_required(wanted)
    made = new_key(site)
    made.keyId = wanted.keyId or made.keyId
    return made


def _encrypts(site: SiteContext, profiles: Any) -> bool:
    """Whether one of the storage policies is the one that encrypts."""
    policy = site.settings.encryption_policy
    return bool(policy) and any(getattr(p, "profileId", None) == policy for p in profiles or ())


def key_of_spec(site: SiteContext, old: Any, spec: Any, profiles: Any) -> Any:
    """The key that a home or a disk has after a spec: `old`, a new one, or None."""
    if isinstance(spec, crypto.CryptoSpecDecrypt):
        return None
    if isinstance(spec, crypto.CryptoSpecEncrypt | crypto.CryptoSpecRegister):
        return _asked_key(site, spec)
    if old is None and _encrypts(site, profiles):
        return new_key(site)
    return old


def apply_to_home(site: SiteContext, config: Any, spec: Any, *, running: bool) -> None:
    """Encrypts or decrypts the home as a ConfigSpec says. Raises InvalidPowerState."""
    key = key_of_spec(site, config.keyId, spec.crypto, spec.vmProfile)
    if key is not config.keyId and running:
        raise invalid_power_state("poweredOn", "poweredOff")
    if key is None and config.keyId is not None and hardware.tpm_of(config) is not None:
        text = "A virtual machine with a virtual TPM cannot be decrypted."
        raise fault(vim.fault.InvalidVmConfig, text, property="configSpec.crypto")
    config.keyId = key


def require_tpm(site: SiteContext, config: Any, index: int) -> None:
    """Checks that a virtual TPM can be added, and encrypts the home where it is not.

    Raises InvalidDeviceSpec without EFI or for a second one, EncryptionKeyRequired.
    """
    if config.firmware != "efi":
        raise hardware.invalid_device(index, "", "A virtual TPM needs EFI firmware.")
    if hardware.tpm_of(config) is not None:
        raise hardware.invalid_device(index, "", "There is a virtual TPM already.")
    config.keyId = config.keyId or new_key(site)


def is_encrypted(config: Any) -> bool:
    """Whether the home or a disk is encrypted."""
    disks = hardware.disks_of(config)
    return config.keyId is not None or any(getattr(d.backing, "keyId", None) for d in disks)
