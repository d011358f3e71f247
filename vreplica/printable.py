"""Makes text of others harmless before a terminal, a log, a mail or a page shows it.

Names of VMs, fields of points, faults of servers and the output of programs in guests are written
by others. A terminal obeys control characters in them: it sets its title, clears the screen, fills
the clipboard, or hides a line. Here each becomes a visible sign of the same width:

    ESC ] 0 ; title BEL      ␛]0;title␇

So do the characters that turn the direction of text around or have no width, by which one name
looks like another.
"""

from __future__ import annotations

import re
from typing import Final

_INVISIBLE: Final = (
    "\u061c\u200b\u200e\u200f\u202a-\u202e\u2028\u2029\u2060-\u2069\ufeff\ufff9-\ufffb"
)
_CONTROLS: Final = re.compile(
    rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_INVISIBLE}\ud800-\udfff\U000e0000-\U000e007f]"
)
"""All controls but tab and line feed. Lone surrogates cannot be written at all."""

_JSON_CONTROLS: Final = re.compile(rf"[\x7f-\x9f{_INVISIBLE}\ud800-\udfff\U000e0000-\U000e007f]")


def printable(text: str) -> str:
    """The text with a sign in place of each control character; tabs and line feeds stay."""
    return _CONTROLS.sub(_sign, text)


def one_line(text: str) -> str:
    """The same in one line, with single blanks."""
    return " ".join(printable(text).split())


def printable_json(document: str) -> str:
    """A JSON document with those characters escaped; its values stay the same."""
    return _JSON_CONTROLS.sub(_escape, document)


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else "\ufffd"


def _escape(match: re.Match[str]) -> str:
    data = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{data[at : at + 4]}" for at in range(0, len(data), 4))
