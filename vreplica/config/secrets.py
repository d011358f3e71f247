"""Passwords and other secrets, read from where the job file says, when something needs them.

What was read is remembered for `vreplica.redact`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from vreplica.config.schema.base import Secret
from vreplica.errors import ConfigError
from vreplica.redact import remember


@dataclass(eq=False)
class SecretUnavailable(ConfigError):
    template = "{what} is not to be had from {place}: {reason}"
    remedy = "{hint}"
    what: str
    """As in "the password of site main"."""
    place: str
    reason: str
    hint: str


def read(secret: Secret, what: str, user: str, base: Path) -> str:
    """The secret. A relative file is looked for in `base`, the job file's folder."""
    if secret.env is not None:
        value = _from_environment(secret.env, what)
    elif secret.file is not None:
        value = _from_file(base / secret.file.expanduser(), what)
    else:
        assert secret.keyring is not None
        value = _from_keyring(secret.keyring, what, user)
    remember(value)
    return value


def _from_environment(name: str, what: str) -> str:
    place = f"the environment variable {name}"
    value = os.environ.get(name)
    if not value:
        reason = "it is empty" if value == "" else "it is not set"
        raise SecretUnavailable(what, place, reason, f"Set {name} for this process.")
    return value


def _from_file(path: Path, what: str) -> str:
    place = f"the file {path}"
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            raise SecretUnavailable(
                what,
                place,
                f"others than its owner have access to it (mode {stat.S_IMODE(mode):04o})",
                f"Take that away: chmod 600 {path}. Then change it.",
            )
        value = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretUnavailable(
            what, place, "it is not UTF-8 text", "Write it alone into it."
        ) from None
    except OSError as error:
        raise SecretUnavailable(
            what,
            place,
            error.strerror or type(error).__name__,
            "Write it alone into a file that only this user can read.",
        ) from None
    if not value:
        raise SecretUnavailable(what, place, "it is empty", "Write it alone into it.")
    return value


def _from_keyring(service: str, what: str, user: str) -> str:
    place = f"the keyring's service {service}"
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise SecretUnavailable(
            what,
            place,
            "the keyring package is not installed",
            "pip install 'vreplica[keyring]'",
        ) from None
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        raise SecretUnavailable(
            what, place, str(error) or type(error).__name__, "Unlock or set up the keyring."
        ) from None
    if not value:
        raise SecretUnavailable(
            what, place, f"it has no password for {user}", f"keyring set {service} {user}"
        )
    return str(value)
