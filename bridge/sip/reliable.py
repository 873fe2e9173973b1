"""Provisional responses that arrive for certain: RFC 3262, both ends, as plain data.

Who is called counts its responses by RSeq, says one at a time, and waits for the PRACK of each (§3). Who calls acknowledges those
that come in order, and drops the others (§4). Refuses to know timers, transactions and what a response says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple
from zlib import crc32

from bridge.sip.headers import option_tags
from bridge.sip.message import Request, Response

RELIABLE: Final = "100rel"  # the option tag (§8.1)
RSEQ_MOST: Final = 2**32 - 1  # §7.1
WAITING_MOST: Final = 8  # of one call: what nobody acknowledges is not piled up

Order = Literal["next", "known", "gap"]


class Rack(NamedTuple):
    """What a PRACK acknowledges (§7.2)."""

    rseq: int
    sequence: int  # the CSeq number of the request that was answered
    method: str


class Said(NamedTuple):
    """One provisional response."""

    status: int
    has_sdp: bool


@dataclass(slots=True)
class Provisionals:
    """The called side's: what it has said, and what waits until that is acknowledged."""

    rseq: int  # of the last response
    pending: Said | None = None  # the last one, until its PRACK
    waiting: list[Said] = field(default_factory=list)

    @classmethod
    def begun(cls, tag: str) -> Provisionals:
        """None said yet. The first number lies anywhere up to 2**31 - 1 (§3), and the same for whoever carries the call on."""
        return cls(crc32(tag.encode()) & 0x7FFFFFFE)

    def say(self, said: Said) -> bool:
        """Whether it is said now, under the next number; else it waits, unless it is what would be said last anyway."""
        if self.pending is not None:
            last = self.waiting[-1] if self.waiting else self.pending
            if said != last and len(self.waiting) < WAITING_MOST:
                self.waiting.append(said)
            return False
        self.rseq += 1
        self.pending = said
        return True

    def acknowledge(self, rack: Rack | None, sequence: int) -> bool:
        """Whether this names the response that waits, which is done with; `sequence`: the CSeq number of the INVITE."""
        if self.pending is None or rack != Rack(self.rseq, sequence, "INVITE"):
            return False
        self.pending = None
        return True

    def next(self) -> Said | None:
        """What is to be said now that nothing is pending."""
        return self.waiting.pop(0) if self.waiting and self.pending is None else None

    def to_data(self) -> list[Any]:
        """Plain data for a snapshot."""
        return [self.rseq, self.pending, self.waiting]

    @classmethod
    def from_data(cls, data: list[Any]) -> Provisionals:
        """What `to_data` wrote."""
        rseq, pending, waiting = data
        return cls(rseq, None if pending is None else Said(*pending), [Said(*each) for each in waiting])


def wanted(invite: Request) -> Literal["required", "supported"] | None:
    """Whether the caller insists on reliable provisional responses, or would take them (§3)."""
    if RELIABLE in option_tags(invite, "Require"):
        return "required"
    return "supported" if RELIABLE in option_tags(invite, "Supported") else None


def rack_of(prack: Request) -> Rack | None:
    """What a PRACK acknowledges; None where it does not say so as it should."""
    parts = (prack.headers.get("RAck") or "").split()
    if len(parts) != 3 or not all(_is_number(each) for each in parts[:2]):
        return None
    return Rack(int(parts[0]), int(parts[1]), parts[2])


def rseq_of(response: Response) -> int | None:
    """The number of a reliable provisional response (§4); None for any other."""
    if not 100 < response.status < 200 or RELIABLE not in option_tags(response, "Require"):
        return None
    written = (response.headers.get("RSeq") or "").strip()
    return int(written) if _is_number(written) and int(written) > 0 else None


def order(known: int | None, rseq: int) -> Order:
    """Whether this number follows the last one that was acknowledged in this dialog (§4); None: there has been none."""
    if known is None or rseq == known + 1:
        return "next"
    return "known" if rseq <= known else "gap"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= RSEQ_MOST
