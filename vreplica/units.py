"""Sizes and rounding. All quantities are bytes unless a name says otherwise."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

SECTOR: Final = 512
"""VixDiskLib and VMDK count in sectors of 512 bytes, whatever the medium has."""

BLOCK: Final = 64 * KIB
"""The unit that is hashed and written: VDDK's smallest allocation chunk, a VMDK grain."""

IO_SIZE: Final = 1 * MIB
"""Default size of one read or write (design: docs/architecture.md)."""


def round_down(value: int, unit: int) -> int:
    """The largest multiple of `unit` that is not above `value`."""
    return value - value % unit


def round_up(value: int, unit: int) -> int:
    """The smallest multiple of `unit` that is not below `value`."""
    return -(-value // unit) * unit


def human_size(size_bytes: float) -> str:
    """`1536` -> `1.5 KiB`: three significant digits, binary prefixes."""
    value = float(size_bytes)
    for prefix in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or prefix == "TiB":
            break
        value /= 1024
    if prefix == "B" or value == int(value):
        return f"{int(value)} {prefix}"
    return f"{value:.3g} {prefix}" if abs(value) < 1000 else f"{value:.0f} {prefix}"


def human_duration(seconds: float) -> str:
    """`64 s`, `2 min 36 s`, `15 min`, `4 h 30 min`, `3 d 4 h`: two units at most."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    unit, size, smaller, step = next(u for u in _DURATIONS if whole >= u[1])
    count, rest = divmod(whole, size)
    return f"{count} {unit} {rest // step} {smaller}" if rest >= step else f"{count} {unit}"


_DURATIONS: Final = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))
