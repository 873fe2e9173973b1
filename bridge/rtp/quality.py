"""What is counted about one stream: RFC 3550 §6.4.1, with the arithmetic of its appendices A.1, A.3 and A.8.

Knows sequence numbers, timestamps and arrival times; not where packets come from, nor what they carry.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.rtp.rtcp import FarEnd

MAX_DROPOUT = 3000  # A.1: a larger jump forward is a restarted sender, not a loss
MAX_MISORDER = 100  # A.1
MAX_TRANSIT_S = 10.0  # a larger change of transit time is a timestamp that was set anew, not jitter


@dataclass(frozen=True, slots=True)
class Quality:
    """The figures of one session at a moment, both directions; times in milliseconds.

    What is received is counted here; how much of what is sent arrives, the far end says in its reports, if it sends any.
    """

    packets_received: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    bytes_sent: int = 0
    packets_lost: int = 0
    jitter_ms: float = 0.0
    strangers: int = 0  # packets from a source that was not allowed
    invalid: int = 0  # packets that are no RTP, or of a payload type nobody negotiated
    packets_relayed: int = 0  # of those received: sent on to whom it hears
    remote_packets_lost: int | None = None  # of those sent, by the far end's reports
    remote_jitter_ms: float | None = None  # likewise
    round_trip_ms: float | None = None  # between the far end and us; only where it answers reports that it was sent


class Counters:
    """The running figures of one session. `count` is on the path of every packet."""

    __slots__ = (
        "_base",
        "_clock_rate",
        "_cycles",
        "_expected_before",
        "_highest",
        "_jitter",
        "_ssrc",
        "_timestamp",
        "_transit",
        "bytes_received",
        "bytes_sent",
        "invalid",
        "packets_received",
        "packets_relayed",
        "packets_sent",
        "strangers",
    )

    def __init__(self, clock_rate: int) -> None:
        self.packets_received = self.bytes_received = self.packets_sent = self.bytes_sent = 0
        self.strangers = self.invalid = self.packets_relayed = 0
        self._clock_rate = clock_rate
        self._ssrc: int | None = None
        self._base = self._highest = self._cycles = 0  # of the current source's sequence numbers
        self._expected_before = 0  # packets expected of earlier sources of this session
        self._timestamp = 0
        self._transit = 0.0  # of the latest packet, in timestamp units (A.8)
        self._jitter = 0.0  # in timestamp units

    def set_clock_rate(self, clock_rate: int) -> None:
        """A newly negotiated codec's unit of time; the figure of jitter goes on in it."""
        if clock_rate != self._clock_rate:
            self._jitter *= clock_rate / self._clock_rate
            self._clock_rate = clock_rate
            self._restart(None, 0)

    def count(self, sequence: int, timestamp: int, ssrc: int, length: int, arrival: float) -> None:
        """One valid packet of `length` bytes, UDP payload, that came at `arrival` seconds of any steady clock."""
        self.packets_received += 1
        self.bytes_received += length
        transit = arrival * self._clock_rate - timestamp
        if ssrc != self._ssrc:
            self._restart(ssrc, sequence)
        else:
            ahead = (sequence - self._highest) & 0xFFFF
            if ahead < MAX_DROPOUT:
                if sequence < self._highest:
                    self._cycles += 0x10000
                self._highest = sequence
            elif ahead <= 0x10000 - MAX_MISORDER:
                self._restart(ssrc, sequence)
            # else: late or doubled; received, and expected already
            change = transit - self._transit
            # Packets of one telephone-event share their timestamp (RFC 4733 §2.2.1): they say nothing of the path.
            if timestamp != self._timestamp:
                if change < 0.0:
                    change = -change
                if change < MAX_TRANSIT_S * self._clock_rate:
                    self._jitter += (change - self._jitter) / 16.0
        self._transit = transit
        self._timestamp = timestamp

    @property
    def packets_lost(self) -> int:
        """Expected less received (A.3), never below zero: doubled packets do not hide lost ones of another call."""
        return max(0, self._expected_before + self._expected() - self.packets_received)

    def quality(self, far_end: FarEnd | None = None) -> Quality:
        """The figures now, with what the far end has said."""
        far_end = far_end or FarEnd()
        return Quality(
            packets_received=self.packets_received,
            bytes_received=self.bytes_received,
            packets_sent=self.packets_sent,
            bytes_sent=self.bytes_sent,
            packets_lost=self.packets_lost,
            jitter_ms=round(self._jitter / self._clock_rate * 1000.0, 3),
            strangers=self.strangers,
            invalid=self.invalid,
            packets_relayed=self.packets_relayed,
            remote_packets_lost=far_end.packets_lost,
            remote_jitter_ms=_in_ms(far_end.jitter_s(self._clock_rate)),
            round_trip_ms=_in_ms(far_end.round_trip_s),
        )

    def _expected(self) -> int:
        return 0 if self._ssrc is None else self._cycles + self._highest - self._base + 1

    def _restart(self, ssrc: int | None, sequence: int) -> None:
        self._expected_before += self._expected()
        self._ssrc = ssrc
        self._base = self._highest = sequence
        self._cycles = 0


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000.0, 3)
