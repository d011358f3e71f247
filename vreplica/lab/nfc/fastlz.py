"""FastLZ as ESXi hosts use it: a block for each fragment, level 2 from 64 KiB up, else level 1.

    block     instruction ...; the top three bits of the first byte are the level less one
    000LLLLL  literal: L + 1 bytes follow
    LLLDDDDD [length ...] dddddddd [far far]     match: copy from D:d + 1 bytes back
              L 1..6: L + 2 bytes
              L 7:    9 + the next byte; at level 2 further bytes are added while they are 255
              level 2, D:d all ones: the distance is 8192 + the next two bytes, high one first

Only the lab uses it: the product's client asks for plain data. No maintained FastLZ exists for
Python or in Debian, and the lab needs little of it. `decompress` accepts any bytes of a client: it
stays inside its buffers, or raises ValueError.

Source of the format: the block description and the reference implementation of FastLZ
(ariya/FastLZ), whose output is among the test vectors.
"""

from __future__ import annotations

from typing import Final

from vreplica.units import KIB

LEVEL_2_FROM: Final = 64 * KIB
_NEAR: Final = (8192, 8191)
"""The farthest match with two bytes of distance, by level."""
_FAR: Final = 8191 + 65535
_LONGEST: Final = (264, 1 << 30)
_LITERALS: Final = 32
_TAIL: Final = 5
"""A block ends with literals: the reference implementation refuses a match in its last bytes."""


def compress(data: bytes | memoryview, level: int | None = None) -> bytes:
    """A block. Where it is longer than the data, the data is to be sent plain."""
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
            # The step grows while no match is found, so random data is left soon.
            at += 1 + (at - literals >> 6)
            continue
        length, most = 4, min(longest, end - at)
        while length < most:
            # Compares pieces first: matches are long, and a loop over bytes is slow.
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
    """The `size` bytes of a block. Raises ValueError where it is not a block of so many."""
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
                at = _copy_match(block, at, code=code, level=level, out=out, size=size)
            if len(out) > size:
                raise ValueError(f"more than {size} bytes")
    except IndexError:
        raise ValueError("the block ends in a match") from None
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes instead of {size}")
    return bytes(out)


def _copy_match(
    block: bytes | memoryview, at: int, *, code: int, level: int, out: bytearray, size: int
) -> int:
    """Appends the match whose first byte is `code`. Returns the place of the next instruction."""
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
        # The match overlaps its own output: a pattern that repeats.
        pattern = out[start:]
        out += (pattern * (length // distance + 1))[:length]
    return at
