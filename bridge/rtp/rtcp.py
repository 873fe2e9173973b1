"""RTCP: sender and receiver reports (RFC 3550 §6.4), read, and what a far end says in them about what it hears of us.

Other packets of a compound pass by unread. Knows nothing of sockets, nor of who relays what; time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from struct import Struct

SENDER_REPORT = 200
RECEIVER_REPORT = 201
LAST_KIND = 207  # after SDES, BYE, APP, two kinds of feedback (RFC 4585) and extended reports (RFC 3611)
SOURCES_MAX = 8  # of one far end's reports, and of reports it was sent: who wants more is not heard about them

_HEAD = Struct("!BBHI")  # version, padding, count · type · length in words less one · SSRC
_SENDER = Struct("!IIIII")  # NTP seconds, fraction · RTP timestamp · packets · bytes
_BLOCK = Struct("!IIIIII")  # SSRC · fraction, cumulative lost · highest sequence · jitter · LSR · DLSR


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What somebody has received of one source (§6.4.1)."""

    ssrc: int  # of the source
    packets_lost: int  # since it began; below zero when packets came doubled
    jitter: int  # in timestamp units
    last_sender_report: int  # the middle 32 bits of its NTP timestamp; 0: none was received
    delay: int  # since then, in units of 1/65536 s


@dataclass(frozen=True, slots=True)
class Reports:
    """A compound packet, as far as it is read."""

    ssrc: int  # of who reports
    sent_at: int | None  # the middle 32 bits of a sender report's NTP timestamp; None: the sender sends no media
    blocks: tuple[ReportBlock, ...]


def read_reports(data: bytes | bytearray | memoryview, length: int) -> Reports | None:
    """The reports in the first `length` bytes; None: it is no RTCP.

    The tests are those of RFC 3550 appendix A.2: the first packet is not padded, and the lengths add up. But it need not be
    a report: phones open a NAT's way with an APP packet alone (baresip does), and feedback may come alone too (RFC 5506
    §3.4.2).
    """
    if length < _HEAD.size:
        return None
    first, kind, _, ssrc = _HEAD.unpack_from(data)
    if first & 0xE0 != 0x80 or not SENDER_REPORT <= kind <= LAST_KIND:
        return None
    sent_at: int | None = None
    blocks: list[ReportBlock] = []
    start = 0
    while start < length:
        if start + 4 > length:
            return None
        first, kind = data[start], data[start + 1]
        end = start + 4 * (1 + int.from_bytes(data[start + 2 : start + 4]))
        if first >> 6 != 2 or end > length:
            return None
        if kind in (SENDER_REPORT, RECEIVER_REPORT):
            block = start + _HEAD.size + (_SENDER.size if kind == SENDER_REPORT else 0)
            count = first & 0x1F
            if block + count * _BLOCK.size > end:
                return None
            if kind == SENDER_REPORT:
                seconds, fraction, *_ = _SENDER.unpack_from(data, start + _HEAD.size)
                sent_at = (seconds & 0xFFFF) << 16 | fraction >> 16
            blocks += [_read_block(data, block + number * _BLOCK.size) for number in range(count)]
        start = end
    return Reports(ssrc, sent_at, tuple(blocks))


def _read_block(data: bytes | bytearray | memoryview, start: int) -> ReportBlock:
    ssrc, lost, _, jitter, last, delay = _BLOCK.unpack_from(data, start)
    lost &= 0xFFFFFF
    return ReportBlock(ssrc, lost - 0x1000000 if lost & 0x800000 else lost, jitter, last, delay)


class FarEnd:
    """What a far end says of the streams that it gets from us, ours and relayed ones alike."""

    __slots__ = ("_jitter", "_lost", "_lost_before", "_sent", "round_trip_s")

    def __init__(self) -> None:
        self.round_trip_s: float | None = None  # between it and us, as last known
        self._jitter: int | None = None  # in timestamp units, as last said
        self._lost: OrderedDict[int, int] = OrderedDict()  # by source, the one last reported about at the end
        self._lost_before = 0  # of sources that are not looked at any more
        self._sent: OrderedDict[tuple[int, int], float] = OrderedDict()  # sender reports it was sent: when

    def was_sent(self, reports: Reports, *, now: float) -> None:
        """These reports, somebody else's, were sent to it: its answer to them tells how long the way is."""
        if reports.sent_at is not None:
            self._sent[reports.ssrc, reports.sent_at] = now
            if len(self._sent) > SOURCES_MAX:
                self._sent.popitem(last=False)

    def said(self, reports: Reports, *, now: float) -> None:
        """These reports came from it."""
        for block in reports.blocks:
            self._jitter = block.jitter
            self._lost[block.ssrc] = block.packets_lost
            self._lost.move_to_end(block.ssrc)
            if len(self._lost) > SOURCES_MAX:
                self._lost_before += self._lost.popitem(last=False)[1]
            sent = self._sent.get((block.ssrc, block.last_sender_report))
            if sent is not None:
                # Its clock and ours need not agree: only its delay counts (§6.4.1).
                self.round_trip_s = max(0.0, now - sent - block.delay / 65536)

    @property
    def packets_lost(self) -> int | None:
        """Of all that it was sent; None: it has not said."""
        return max(0, self._lost_before + sum(self._lost.values())) if self._lost else None

    def jitter_s(self, clock_rate: int) -> float | None:
        """As it last said, where its streams' unit of time is 1/`clock_rate` s; None: it has not."""
        return None if self._jitter is None else self._jitter / clock_rate
