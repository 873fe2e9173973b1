"""Servers that have failed us lately, so that a call does not wait for each of them anew (RFC 3263 §4.3, §21.5.4).

They are tried after all others that a name leads to, and not left out: none of them may be better than nothing. Of this
node alone, and forgotten with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from bridge.sip.flow import Flow
from bridge.sip.locating import Hop
from bridge.sip.message import Response

SILENT_S: Final = 30.0  # after no answer, a refused connection, a certificate that proves nothing
LONGEST_S: Final = 600.0  # whatever a Retry-After says
SERVERS_MOST: Final = 1024  # remembered; the one noted first goes


class Outages:
    """Until when each server is to be left alone."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: OrderedDict[Hop, float] = OrderedDict()

    def silent(self, flow: Flow, *, now: float) -> None:
        """Nothing can be brought there, or nothing comes back."""
        self._note(flow, now + SILENT_S)

    def overloaded(self, flow: Flow, response: Response, *, now: float) -> None:
        """It has said 503. Without a Retry-After that counts for this request alone (§21.5.4)."""
        wait = _seconds(response.headers.get("Retry-After"))
        if wait > 0:
            self._note(flow, now + min(wait, LONGEST_S))

    def in_turn(self, hops: Sequence[Hop], *, now: float) -> list[Hop]:
        """The same, those that have failed last."""
        return sorted(hops, key=lambda hop: self._until.get(hop, 0.0) > now)

    def _note(self, flow: Flow, until: float) -> None:
        hop = Hop(flow.transport, flow.host, flow.port)
        self._until[hop] = until
        self._until.move_to_end(hop)
        if len(self._until) > SERVERS_MOST:
            self._until.popitem(last=False)


def _seconds(written: str | None) -> float:
    """Of a Retry-After (§20.33), without its comment and parameters; 0.0 where it makes no sense."""
    digits = (written or "").partition(";")[0].partition("(")[0].strip()
    return float(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0.0
