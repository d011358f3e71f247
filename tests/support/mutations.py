"""Damages real data at random: what a disk, a person or a hostile server may make of it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType
from typing import Final

TOKENS: Final = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1", b"0", b"null", b"true", b"[]", b"{}"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"9" * 400),
    *(b"9999-12-31T23:59:59-14:00", b"0001-01-01T00:00:00", b"2026-02-30T25:61:61Z", b'""', b"\0"),
    *(b"[" * 3000, b"{" * 300, b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\n", b"\r\n", b"</a>"),
    *(b"\x1b]0;x\x07", b"&#0;", b"&lol;", b"<![CDATA[", b"xsd:string", b"../../etc", b"%00"),
)
_VALUE: Final = re.compile(rb'-?\d[\d.]*|true|false|null|"[^"\n]{0,60}"|>[^<>\n]{1,60}<')


def _flip(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    data[at] ^= 1 << random.randrange(8)


def _set(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] = random.randrange(256)


def _cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


def _drop(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.choice((1, 2, 7, 64, 512))]


def _zeros(data: bytearray, random: Random) -> None:
    """A sector that was lost."""
    at, size = random.randrange(len(data)), random.choice((1, 8, 64, 512, 4096))
    data[at : at + size] = bytes(len(data[at : at + size]))


def _twice(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    part = data[at : at + random.choice((1, 16, 200))]
    data[at:at] = part


def _insert(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice(TOKENS)


def _replace(data: bytearray, random: Random) -> None:
    """A whole value by another: a number, a word, a quoted text, the text of an element."""
    found = list(_VALUE.finditer(data))
    if not found:
        _insert(data, random)
        return
    match = random.choice(found)
    token = random.choice(TOKENS)
    text = match[0]
    if text[:1] == b'"' and random.random() < 0.5:
        token = b'"' + token + b'"'
    elif text[:1] == b">":
        token = b">" + token + b"<"
    data[match.start() : match.end()] = token


def _exchange(data: bytearray, random: Random) -> None:
    """Two values change places."""
    found = list(_VALUE.finditer(data))
    if len(found) < 2:
        _flip(data, random)
        return
    first, second = sorted(random.sample(found, 2), key=lambda m: m.start())
    a, b = first[0], second[0]
    data[second.start() : second.end()] = a
    data[first.start() : first.end()] = b


_KINDS: Final[tuple[Callable[[bytearray, Random], None], ...]] = (
    *(_flip, _flip, _set, _cut, _drop, _zeros, _twice, _insert),
    *(_replace, _replace, _replace, _exchange),
)


def mutated(data: bytes, random: Random) -> bytes:
    """The data with one to three changes."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if not changed:
            break
        random.choice(_KINDS)(changed, random)
    return bytes(changed)


def one_bit(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    _flip(changed, random)
    return bytes(changed)


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Raises inside where something hangs. In the main thread only."""

    def over(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it hangs: no end within {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
