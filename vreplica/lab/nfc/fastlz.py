"""FastLZ as hosts speak it: one block for each fragment, level 2 from 64 KiB up, level 1 below.

    block     instruction ...; the top three bits of the first byte are the level less one
    000LLLLL  literal: L + 1 bytes follow
    LLLDDDDD [length ...] dddddddd [far far]     match: copy from D:d + 1 bytes back
              L 1..6: L + 2 bytes
              L 7:    9 + the next byte; at level 2 further bytes are added while they are 255
              level 2, D:d all ones: the distance is 8192 + the next two bytes, high one first

It is the lab's alone: a client of the product asks for plain data. There is no well-kept FastLZ
for Python and none in Debian, and what a lab needs of it is small. `decompress` takes anything a
client sends: it reads and writes inside its bounds, or raises ValueError.

Format: FastLZ's own block description and reference implementation (ariya/FastLZ), whose output
is among the tests' vectors.
"""

from __future__ import annotations

from typing import Final

from vreplica.units import KIB

LEVEL_2_FROM: Final = 64 * KIB
_NEAR: Final = (8192, 8191)
"""Farthest match with two bytes of distance, by level."""
_FAR: Final = 8191 + 65535
_LONGEST: Final = (264, 1 << 30)
_LITERALS: Final = 32
_TAIL: Final = 5
"""A block ends with literals: the reference refuses a match in its last bytes."""


def compress(data: bytes | memoryview, level: int | None = None) -> bytes:
    """A block. It may be longer than the data; then a side sends the data plain."""
    source = bytes(data)
    if level is None:
        level = 2 if len(source) >= LEVEL_2_FROM else 1
    out, seen, literals, at = bytearray(), dict[bytes, int](), 0, 0
    farthest, longest = (_NEAR[0], _FAR)[level - 1], _LONGEST[level - 1]
    end = len(source) - _TAIL
    while at <= end - 4:
        key = source[at : at + 4]
        found = seen.get(key)
        seen[key] = at
        if found is None or at - found > farthest or at == 0:
            # The longer nothing is found, the wider the steps: random data is given up soon.
            at += 1 + (at - literals >> 6)
            continue
        length, most = 4, min(longest, end - at)
        while length < most:
            # By pieces first: runs are long, and a loop over bytes is slow here.
            step = min(4096, most - length)
            if (
                source[found + length : found + length + step]
                == (source[at + length : at + length + step])
            ):
                length += step
                continue
            while length < most and source[found + length] == source[at + length]:
                length += 1
            break
        _put_literals(out, source[literals:at])
        _put_match(out, at - found, length, level)
        at += length
        literals = at
    _put_literals(out, source[literals:])
    if out:
        out[0] |= (level - 1) << 5
    return bytes(out)


def _put_literals(out: bytearray, data: bytes) -> None:
    for at in range(0, len(data), _LITERALS):
        piece = data[at : at + _LITERALS]
        out.append(len(piece) - 1)
        out += piece


def _put_match(out: bytearray, distance: int, length: int, level: int) -> None:
    far = level == 2 and distance > _NEAR[1]
    back = 8191 if far else distance - 1
    if length < 9:
        out.append((length - 2) << 5 | back >> 8)
    else:
        out.append(7 << 5 | back >> 8)
        rest = length - 9
        if level == 2:
            out += b"\xff" * (rest // 255)
            rest %= 255
        out.append(rest)
    out.append(back & 0xFF)
    if far:
        out += (distance - 8192).to_bytes(2, "big")


def decompress(block: bytes | memoryview, size: int) -> bytes:
    """Exactly `size` bytes. Raises ValueError for anything else than a block of them."""
    out, at, end = bytearray(), 0, len(block)
    if not end:
        raise ValueError("an empty block")
    level = (block[0] >> 5) + 1
    if level > 2:
        raise ValueError(f"FastLZ has no level {level}")
    try:
        while at < end:
            code = block[at] & 0x1F if at == 0 else block[at]
            at += 1
            if code < 32:
                if at + code + 1 > end:
                    raise ValueError("literals reach past the block")
                out += block[at : at + code + 1]
                at += code + 1
            else:
                at = _take_match(block, at, code, level, out, size)
            if len(out) > size:
                raise ValueError(f"more than {size} bytes")
    except IndexError:
        raise ValueError("the block ends in a match") from None
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes instead of {size}")
    return bytes(out)


def _take_match(
    block: bytes | memoryview, at: int, code: int, level: int, out: bytearray, size: int
) -> int:
    length, back = (code >> 5) + 2, (code & 0x1F) << 8
    if code >> 5 == 7:
        while True:
            more = block[at]
            at += 1
            length += more
            if level == 1 or more != 255:
                break
    low = block[at]
    at += 1
    distance = back + low + 1
    if level == 2 and distance == 8192:
        distance += (block[at] << 8) + block[at + 1]
        at += 2
    start = len(out) - distance
    if start < 0:
        raise ValueError("a match before the start")
    if len(out) + length > size:
        raise ValueError(f"more than {size} bytes")
    if distance >= length:
        out += out[start : start + length]
    else:
        # It overlaps itself: a pattern that repeats.
        pattern = out[start:]
        out += (pattern * (length // distance + 1))[:length]
    return at
