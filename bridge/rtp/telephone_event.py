"""Keys pressed: DTMF as named events in RTP (RFC 4733 §2), put together from the packets that repeat them.

One press is many packets with one timestamp, each with the duration so far; the last is marked as the end and sent three
times. Any of them may be lost, so a press is over when its end comes, when another begins, or when nothing more is heard
of it. Knows payloads and times; not which payload type they came under. Other events than the sixteen keys are ignored.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

DIGITS = "0123456789*#ABCD"  # by event code (§3.2)
PAYLOAD_BYTES = 4
SILENT_S = 0.25  # an event is repeated each 50 ms or oftener (§2.5.1.2): five missing in a row will not come
LONGEST_SEGMENT = 0xFFFF  # in timestamp units: then the next segment begins, under a timestamp of its own (§2.5.1.3)
LATE = 5 * 48_000  # in timestamp units: a packet of an older event, and not a sender that began anew

_PAYLOAD = Struct("!BBH")


class Digit(NamedTuple):
    """One key, pressed and let go."""

    digit: str
    duration_ms: int


class DigitAssembler:
    """The keys of one stream. Feed it each event packet, and `expire` when its deadline has come."""

    __slots__ = ("_before", "_clock_rate", "_duration", "_event", "_heard_at", "_over", "_ssrc", "_timestamp")

    def __init__(self, clock_rate: int) -> None:
        """`clock_rate`: Hz, the unit of timestamps and durations."""
        self._clock_rate = clock_rate
        self._ssrc: int | None = None
        self._event: int | None = None  # the code of the key that is down
        self._timestamp = 0  # of the latest segment, of the key that is down or was last
        self._duration = 0  # of that segment so far
        self._before = 0  # of the segments before it
        self._heard_at = 0.0
        self._over = False  # a key was heard of before: what still comes of it is old

    @property
    def deadline(self) -> float | None:
        """When the key that is down is taken for let go, if no packet comes; None: none is down."""
        return None if self._event is None else self._heard_at + SILENT_S

    def set_clock_rate(self, clock_rate: int) -> None:
        """A newly negotiated unit of time; a key that is down counts in it from its first packet."""
        self._clock_rate = clock_rate

    def hear(self, payload: bytes | memoryview, timestamp: int, ssrc: int, *, now: float) -> tuple[Digit, ...]:
        """One packet's payload, with its RTP timestamp and source; returns the keys that are known to be over by it."""
        if len(payload) < PAYLOAD_BYTES:
            return ()
        event, flags, duration = _PAYLOAD.unpack_from(payload)
        if event >= len(DIGITS):
            return ()
        over: tuple[Digit, ...] = ()
        if ssrc != self._ssrc:
            over = self._finish()
            self._ssrc, self._over = ssrc, False
        ahead = (timestamp - self._timestamp) & 0xFFFFFFFF
        if self._event is None:
            if self._over and (ahead == 0 or ahead > 0xFFFFFFFF - LATE):
                return over  # its end once more, or a straggler
            self._begin(event, timestamp)
        elif ahead > 0xFFFFFFFF - LATE:
            return over
        elif event == self._event and ahead == LONGEST_SEGMENT:
            self._before += LONGEST_SEGMENT
            self._timestamp, self._duration = timestamp, 0
        elif ahead != 0:
            over += self._finish()  # its end was lost
            self._begin(event, timestamp)
        self._heard_at = now
        self._duration = max(self._duration, duration)
        return over + self._finish() if flags & 0x80 else over

    def expire(self, *, now: float) -> tuple[Digit, ...]:
        """The deadline has come; nothing happens if it was moved meanwhile."""
        deadline = self.deadline
        return self._finish() if deadline is not None and now >= deadline else ()

    def _begin(self, event: int, timestamp: int) -> None:
        self._event, self._timestamp = event, timestamp
        self._duration = self._before = 0

    def _finish(self) -> tuple[Digit, ...]:
        if self._event is None:
            return ()
        digit = Digit(DIGITS[self._event], (self._before + self._duration) * 1000 // self._clock_rate)
        self._event, self._over = None, True
        return (digit,)
