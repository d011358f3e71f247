"""Reads passwords and other secrets from where the job file says, when they are needed.

Every secret that was read is hidden in logs and messages: see vreplica.redact.
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
    """`what`: the secret in words, such as "the password of site main"."""

    template = "cannot read {what}: {reason}"
    remedy = "{hint}"
    what: str
    reason: str
    hint: str


def read(secret: Secret, what: str, user: str, base: Path) -> str:
    """The secret. `what` describes it for errors; a relative file is in `base`.

    Raises SecretUnavailable.
    """
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
    value = os.environ.get(name)
    if not value:
        reason = f"{name} is empty" if value == "" else f"{name} is not set"
        hint = f"Set the environment variable {name} for this process."
        raise SecretUnavailable(what, reason, hint)
    return value


def _from_file(path: Path, what: str) -> str:
    write = f"Write the value, and nothing else, into {path}; then run `chmod 600 {path}`."
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            reason = f"other users have access to {path} (mode {stat.S_IMODE(mode):04o})"
            hint = f"Run `chmod 600 {path}`; change the value if others may have read it."
            raise SecretUnavailable(what, reason, hint)
        value = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SecretUnavailable(what, f"{path}: it is not UTF-8 text", write) from None
    except OSError as error:
        reason = f"{path}: {error.strerror or type(error).__name__}"
        raise SecretUnavailable(what, reason, write) from None
    if not value:
        raise SecretUnavailable(what, f"{path}: it is empty", write)
    return value


def _from_keyring(service: str, what: str, user: str) -> str:
    place = f"the keyring's service {service}"
    try:
        import keyring
        import keyring.errors
    except ImportError:
        reason = f"{place} needs the keyring package, which is not installed"
        raise SecretUnavailable(what, reason, "pip install 'vreplica[keyring]'") from None
    try:
        value = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        reason = f"{place}: {str(error) or type(error).__name__}"
        raise SecretUnavailable(what, reason, "Unlock the keyring, or set it up.") from None
    if not value:
        reason = f"{place} has no password for {user}"
        raise SecretUnavailable(what, reason, f"keyring set {service} {user}")
    return str(value)
