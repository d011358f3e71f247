"""What all tables of a job file have in common."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Text = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(strict=True)]
"""Not also "3", 3.0 and true, which are slips."""
Switch = Annotated[bool, Field(strict=True)]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""A job's name is also the name of its folder below state_dir."""


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
"""`~` is allowed; relative to the job file."""


def problem(what: str, remedy: str) -> PydanticCustomError:
    """A validation error that brings its own remedy."""
    return PydanticCustomError("vreplica", "{what}", {"what": what, "remedy": remedy})


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
    """Unknown keys are errors; what was written is never repeated, since it may be a secret."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
        use_attribute_docstrings=True,
        defer_build=True,
    )


class Secret(Model):
    """Where a password is kept; exactly one of the three. Read when a job needs it."""

    env: Text | None = None
    file: File | None = None
    keyring: Text | None = None

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
