"""Passwords, read from where the job file says they are, at the moment that a job needs them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from vreplica.errors import ConfigError
from vreplica.jobs.tables import Secret


@dataclass(eq=False)
class SecretUnavailable(ConfigError):
    template = "the password of {whose} is not to be had from {place}: {reason}"
    remedy = "{hint}"
    whose: str
    place: str
    reason: str
    hint: str


def read(secret: Secret, whose: str, user: str, base: Path) -> str:
    """The password. A relative file is looked for in `base`, the job file's folder."""
    if secret.env is not None:
        return _from_environment(secret.env, whose)
    if secret.file is not None:
        return _from_file(base / secret.file.expanduser(), whose)
    assert secret.keyring is not None
    return _from_keyring(secret.keyring, whose, user)


def _from_environment(name: str, whose: str) -> str:
    place = f"the environment variable {name}"
    value = os.environ.get(name)
    if not value:
        reason = "it is empty" if value == "" else "it is not set"
        raise SecretUnavailable(whose, place, reason, f"Set {name} for this process.")
    return value


def _from_file(path: Path, whose: str) -> str:
    place = f"the file {path}"
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            raise SecretUnavailable(
                whose,
                place,
                f"others than its owner have access to it (mode {stat.S_IMODE(mode):04o})",
                f"Take that away: chmod 600 {path}. Then change the password.",
            )
        value = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretUnavailable(
            whose, place, "it is not UTF-8 text", "Write the password alone into it."
        ) from None
    except OSError as error:
        raise SecretUnavailable(
            whose,
            place,
            error.strerror or type(error).__name__,
            "Write the password alone into a file that only this user can read.",
        ) from None
    if not value:
        raise SecretUnavailable(whose, place, "it is empty", "Write the password alone into it.")
    return value


def _from_keyring(service: str, whose: str, user: str) -> str:
    place = f"the keyring's service {service}"
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise SecretUnavailable(
            whose,
            place,
            "the keyring package is not installed",
            "pip install 'vreplica[keyring]'",
        ) from None
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        raise SecretUnavailable(
            whose, place, str(error) or type(error).__name__, "Unlock or set up the keyring."
        ) from None
    if not value:
        raise SecretUnavailable(
            whose, place, f"it has no password for {user}", f"keyring set {service} {user}"
        )
    return str(value)
