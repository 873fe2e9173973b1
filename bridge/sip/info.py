"""Keys in SIP INFO (RFC 2976): the two bodies that phones agree on, though no RFC says them.

`application/dtmf-relay` is Cisco's (`Signal=5`, `Duration=160`), `application/dtmf` the digit alone. Refuses to know what a key
means.
"""

from __future__ import annotations

from typing import NamedTuple

DTMF_RELAY = "application/dtmf-relay"
DTMF = "application/dtmf"
TYPES = (DTMF_RELAY, DTMF)

DEFAULT_MS = 160  # what Cisco's phones say themselves; other stacks assume it too where nothing is said
LONGEST_MS = 60_000

_DIGITS = "0123456789*#ABCD"
_BY_NUMBER = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}  # some write RFC 4733's event codes


class Key(NamedTuple):
    """One key that was pressed."""

    digit: str  # 0-9 * # A-D
    duration_ms: int


def read_key(of_type: str, body: bytes) -> Key | None:
    """The key that this body tells; None where it tells none that can be read. At most its first 256 bytes count."""
    text = body[:256].decode("ascii", "replace")
    if of_type == DTMF:
        return _key(text.strip(), DEFAULT_MS)
    said: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        said.setdefault(name.strip().lower(), value.strip())
    lasted = said.get("duration", "")
    known = lasted.isascii() and lasted.isdigit()
    return _key(said.get("signal", ""), min(int(lasted), LONGEST_MS) if known else DEFAULT_MS)


def _key(signal: str, duration_ms: int) -> Key | None:
    digit = _BY_NUMBER.get(signal, signal.upper())
    return Key(digit, duration_ms) if len(digit) == 1 and digit in _DIGITS else None
