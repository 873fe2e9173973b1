"""A rule: what a media worker shall do with one session's packets. Signalling compiles rules, packets only read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Latching = Literal["strict", "learn", "off"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One session's stream as offer and answer left it, and the session that hears it.

    Two sessions that hear each other are two rules, each naming the other.
    """

    remote_host: str | None  # from the far end's SDP; None: not known yet, nothing is sent
    remote_port: int  # 0: the stream is refused or not known
    sources: tuple[str, ...]  # addresses a packet may come from: the SDP's, and the signalling's behind a NAT
    latching: Latching
    behind_nat: bool  # nothing is sent until a packet has shown the way
    payload_types: tuple[int, ...]  # negotiated; another counts as invalid
    silence_payload_type: int | None  # 0 PCMU or 8 PCMA for the keep-alive; None: send none
    clock_rate: int  # Hz, of the audio codec: the unit of jitter
    generation: int  # counts offer/answer exchanges: a new one opens the latch again
    expects_media: bool  # False while held or inactive: then silence is no timeout
    relay_to: str | None = None  # the session from whose ports, and to whose far end, the packets leave; None: nowhere
    payload_map: tuple[
        tuple[int, int], ...
    ] = ()  # payload type that comes -> that leaves; one not in it is not relayed
    muted: bool = False  # what comes is counted and goes no further
    dtmf_payload_types: tuple[int, ...] = ()  # of telephone-event (RFC 4733): relayed as mapped, and told as digits
    relays_rtcp: bool = True  # reports too, from the odd port to the other far end's
