"""The line of each key path, in every way that TOML can write one."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from vreplica.config.toml_positions import KeyPath, line_of, locate

DOCUMENT = '''\
# a comment with [brackets] and key = "value"
title = "x # not a comment"   # but this is
dotted.key."quoted part".'lit.eral' = 1

[sites.main]
host = 'a [b] {c}'
password = { env = "A, } ]", deep = { er = [1, 2] } }
text = """
[not.a.header]
key = 3
four quotes at the end: """"
raw = \'\'\'
C:\\ \'\'\'
after = 2026-01-01T00:00:00Z

[ jobs . "web 01" ] # spaces are allowed
list = [
  "one", # comment, with ]
  { two = 2 },
  [3,
   4],
]
escaped = "a \\" quote"

[[group]]
name = "first"
[group.sub]
key = 1
[[group]]
name = "second"
[[group.inner]]
x = 1
[[group.inner]]
x = 2
'''

LINES: dict[KeyPath, int] = {
    ("title",): 2,
    ("dotted",): 3,
    ("dotted", "key", "quoted part", "lit.eral"): 3,
    ("sites",): 5,
    ("sites", "main"): 5,
    ("sites", "main", "host"): 6,
    ("sites", "main", "password", "env"): 7,
    ("sites", "main", "password", "deep", "er", 1): 7,
    ("sites", "main", "text"): 8,
    ("sites", "main", "raw"): 12,
    ("sites", "main", "after"): 14,
    ("jobs", "web 01"): 16,
    ("jobs", "web 01", "list"): 17,
    ("jobs", "web 01", "list", 0): 18,
    ("jobs", "web 01", "list", 1, "two"): 19,
    ("jobs", "web 01", "list", 2, 1): 21,
    ("jobs", "web 01", "escaped"): 23,
    ("group", 0, "name"): 26,
    ("group", 0, "sub", "key"): 28,
    ("group", 1): 29,
    ("group", 1, "name"): 30,
    ("group", 1, "inner", 0, "x"): 32,
    ("group", 1, "inner", 1, "x"): 34,
}


def paths_in(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in items:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += paths_in(item, (*path, key))
    return found


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_way_to_write_a_key_is_located(end: str) -> None:
    lines = locate(DOCUMENT.replace("\n", end))
    assert {path: lines.get(path) for path in LINES} == LINES


def test_every_path_that_the_standard_parser_sees_has_a_line_and_no_other_has() -> None:
    assert set(locate(DOCUMENT)) == set(paths_in(tomllib.loads(DOCUMENT)))


def test_a_missing_key_stands_where_its_table_does() -> None:
    lines = locate(DOCUMENT)
    assert line_of(lines, ("sites", "main", "user")) == 5
    assert line_of(lines, ("jobs", "web 01", "list", 1, "three")) == 19
    assert line_of(lines, ("vddk",)) == 1
    assert line_of({}, ()) == 1


@pytest.mark.parametrize("text", ["", "# only a comment", "\n\n", "a = 1", "[table]"])
def test_a_document_may_be_nearly_empty(text: str) -> None:
    assert set(locate(text)) == set(paths_in(tomllib.loads(text)))
