"""Types and checks that all tables of a job file share.

Docstrings of tables and keys are the descriptions of `vreplica-sync schema`, which editors show.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Text = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(strict=True)]
"""A whole number. Strict: "3", 3.0 and true are mistakes."""
Switch = Annotated[bool, Field(strict=True)]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""The form of names. A job's name is also the name of its folder below state_dir."""


def problem(what: str, remedy: str) -> PydanticCustomError:
    """A validation error that brings its own remedy."""
    return PydanticCustomError("vreplica", "{what}", {"what": what, "remedy": remedy})


def _openable(path: Path) -> Path:
    if "\0" in str(path):
        raise problem("has a NUL in it", "Write the path without it.")
    try:
        path.expanduser()
    except RuntimeError:
        raise problem(
            "begins with the home directory of a user who is not known here",
            "Write the whole path.",
        ) from None
    return path


File = Annotated[Path, AfterValidator(_openable)]
"""A path: `~` is allowed, and a relative path starts at the job file's folder."""


def _thumbprint(value: str) -> str:
    digits = value.replace(":", "").replace(" ", "").upper()
    remedy = "`vreplica-sync thumbprint HOST` prints it."
    if re.fullmatch(r"[0-9A-F]{40}", digits):
        raise problem("is a SHA-1 thumbprint (20 bytes)", f"Give the SHA-256 one; {remedy}")
    if not re.fullmatch(r"[0-9A-F]{64}", digits):
        raise problem("is not a SHA-256 thumbprint (32 bytes in hex)", remedy)
    return ":".join(digits[i : i + 2] for i in range(0, 64, 2))


Thumbprint = Annotated[str, AfterValidator(_thumbprint)]


class Model(BaseModel):
    """A table of the job file.

    An unknown key is an error. Errors do not repeat what was written, which may be a secret.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
        use_attribute_docstrings=True,
        # A table's own validator is built when it is first used: a tenth of the time to start.
        defer_build=True,
    )


class Secret(Model):
    """The place where a secret is kept: exactly one of env, file and keyring.

    It is read when it is needed.
    """

    env: Text | None = None
    """The name of an environment variable."""
    file: File | None = None
    """A file with the secret alone, which only its owner can access."""
    keyring: Text | None = None
    """A service of the user's keyring. Needs vreplica[keyring]."""

    @model_validator(mode="before")
    @classmethod
    def _no_plain_password(cls, value: object) -> object:
        if not isinstance(value, dict):
            raise problem(
                "may not be written into the file",
                'Say where it is kept: { env = "VARIABLE" }, { file = "path" }'
                ' or { keyring = "service" }.',
            )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Secret:
        if sum(place is not None for place in (self.env, self.file, self.keyring)) != 1:
            raise problem("needs exactly one place", "Give one of env, file and keyring.")
        return self
