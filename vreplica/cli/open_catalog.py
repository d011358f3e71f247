"""Opens the service's catalog for a command."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vreplica.errors import ConfigError

if TYPE_CHECKING:
    from vreplica.config import Config
    from vreplica.service.catalog.database import Catalog


@dataclass(eq=False)
class ServiceNotInstalled(ConfigError):
    template = "the service's libraries are not installed ({missing})"
    remedy = "pip install 'vreplica[service]'"
    missing: str


@contextmanager
def installed() -> Iterator[None]:
    """Around the imports of the service: raises ServiceNotInstalled where one fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "vreplica":
            raise
        raise ServiceNotInstalled(str(error.name)) from None


@contextmanager
def opened(config: Config) -> Iterator[Catalog]:
    """The catalog of this job file. Raises ServiceNotInstalled, CatalogUnreachable,
    CatalogDamaged.
    """
    with installed():
        from vreplica.service.catalog.database import Catalog
    catalog = Catalog.open(config.catalog_url())
    try:
        with answering(config):
            yield catalog
    finally:
        catalog.close()


@contextmanager
def answering(config: Config) -> Iterator[None]:
    """Around calls of an open catalog: raises CatalogUnreachable, CatalogDamaged."""
    from vreplica.service.catalog.engines import CatalogAway, unreachable

    try:
        yield
    except CatalogAway as error:
        raise unreachable(config.catalog_url(), error) from None


def user() -> str:
    """The user who calls, for the audit trail. In a container it may have a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
