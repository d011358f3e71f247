"""Names data that a newer version of vreplica wrote, apart from data that is damaged.

Everything that is stored has a format number. A reader that meets a higher number than its own
says so and leaves the data alone: several movers of different versions may share one replica.
"""

from __future__ import annotations


def written_by_newer(found: int, known: int) -> str:
    """What to say of data in format `found`, where this version reads up to format `known`."""
    return (
        f"written by a newer version of vreplica (format {found}); this version reads up to {known}"
    )


class Damaged(ValueError):
    """A stored value that cannot be believed. The text says why, in one line.

    Raised by the readers of `stored`; here, so that who only names it loads no library.
    """
