"""The service's log: fields for programs, and no secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from vreplica import redact
from vreplica.cli.commands.service.log import log_to_stderr
from vreplica.config import secrets
from vreplica.config.schema.base import Secret
from vreplica.config.secrets import SecretUnavailable
from vreplica.service.catalog.database import Catalog
from vreplica.service.catalog.errors import CatalogUrlInvalid


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "vreplica", "dbos")]
    before = [(each, each.handlers[:], each.level, each.propagate) for each in loggers]
    given = set(redact._secrets)
    yield
    redact._secrets.clear()
    redact._secrets.update(given)
    for each, handlers, level, propagate in before:
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_that_was_read_gets_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    monkeypatch.setenv("PW", 'pass"w0rd')
    monkeypatch.setenv("DB", "postgresql://u:p%40ssw0rd@h/vreplica")
    for name in ("PW", "DB"):
        secrets.read(Secret(env=name), "it", "u", Path())
    log_to_stderr(as_json=as_json, verbose=False)
    log = logging.getLogger("vreplica.service")
    try:
        raise ValueError('login with pass"w0rd')
    except ValueError:
        log.exception("%s and p@ssw0rd", "p%40ssw0rd", extra={"job": "web01", "run": "r1"})
    logging.getLogger("dbos").warning("lost postgresql://u:p%40ssw0rd@h/vreplica")
    text = capsys.readouterr().err
    assert "w0rd" not in text
    assert "ValueError: login with ***" in text
    if as_json:
        first, second = map(json.loads, text.splitlines())
        assert (first["job"], first["run"]) == ("web01", "r1")
        assert second["logger"] == "dbos"


def test_a_missing_secret_is_called_what_it_is() -> None:
    with pytest.raises(SecretUnavailable, match=r"^cannot read the URL of notify.chat: "):
        secrets.read(Secret(env="NOT_SET_ANYWHERE"), "the URL of notify.chat", "u", Path())


@pytest.mark.parametrize(
    "url", ["s3cret-word", "postgresql://u:a:s3cret-word@h:s3cret/db", "mysql://u:s3cret@h/db"]
)
def test_a_database_url_that_cannot_be_used_is_not_repeated(url: str) -> None:
    with pytest.raises(CatalogUrlInvalid) as caught:
        Catalog.open(url)
    assert "s3cret" not in f"{caught.value} {caught.value.explain()}"
