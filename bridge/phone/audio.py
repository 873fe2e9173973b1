"""The phone's ear and mouth: G.711 over RTP, 20 ms a packet (RFC 3551 §4.5.14). It speaks a tone and counts what it hears."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from struct import Struct
from typing import Literal, cast

from bridge.ambient import Clock
from bridge.errors import StartError
from bridge.rtp.packet import PACKET_S, read_header
from bridge.rtp.quality import Counters, Quality

Law = Literal["PCMU", "PCMA"]

_HEADER = Struct("!BBHII")
_SAMPLES = 160  # 20 ms at 8,000 Hz
_CLOCK_RATE = 8000
_MARKER = 0x80  # in the byte of the payload type: a talkspurt begins (RFC 3551 §4.1)
_CATCH_UP_S = 0.2  # who was held up for longer leaves out what should have been said meanwhile
_TONE_HZ = 400  # 8 periods in a packet, so packets join without a click
_AMPLITUDE = 8000.0


class Audio(asyncio.DatagramProtocol):
    """One RTP socket. Sends while told to, counts always."""

    def __init__(self, *, clock: Clock, ssrc: int, heard: Callable[[], None] | None = None) -> None:
        self._clock = clock
        self._ssrc = ssrc
        self._heard = heard
        self._counters = Counters(_CLOCK_RATE)
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._remote: tuple[str, int] | None = None
        self._payload_type = 0
        self._payload = b""
        self._marker = 0
        self._sequence = ssrc & 0xFFFF
        self._timestamp = ssrc & 0xFFFFFFFF
        self._due = 0.0
        self.sent = 0
        self.port = 0

    async def open(self, host: str) -> None:
        """Bind to a free even port (RFC 3550 §11)."""
        loop = asyncio.get_running_loop()
        for _ in range(50):
            transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, 0))
            port = transport.get_extra_info("sockname")[1]
            if port % 2 == 0:
                self._transport, self.port = transport, port
                return
            transport.close()
        raise StartError(f"no even UDP port is free on {host}")

    def begin(self) -> None:
        """Another call: silent, and counted from nothing."""
        self.stop()
        self._counters, self.sent = Counters(_CLOCK_RATE), 0

    def close(self) -> None:
        self.stop()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def speak(self, host: str, port: int, *, payload_type: int, law: Law) -> None:
        """A tone to that address, from now on. `payload_type` is the number that the session gives to `law`."""
        self._remote, self._payload_type, self._payload = (host, port), payload_type, tone(law)
        if self._timer is not None:
            return
        now = self._clock.now()
        if self.sent:
            # Time passes for the stream while nothing is said (RFC 3550 §5.1): else the gap would look like jitter.
            self._pass_over(max(0.0, now - self._due))
        self._due, self._marker = now, _MARKER
        self._next()

    def stop(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def quality(self) -> Quality:
        """What was heard."""
        return self._counters.quality()

    def _next(self) -> None:
        if self._transport is None or self._remote is None:
            return
        late = self._clock.now() - self._due
        if late > _CATCH_UP_S:
            self._pass_over(late)
            self._due += late
        kind = self._marker | self._payload_type
        header = _HEADER.pack(0x80, kind, self._sequence, self._timestamp, self._ssrc)
        self._transport.sendto(header + self._payload, self._remote)
        self.sent += 1
        self._marker = 0
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + _SAMPLES) & 0xFFFFFFFF
        self._due += PACKET_S
        delay = max(0.0, self._due - self._clock.now())
        self._timer = asyncio.get_running_loop().call_later(delay, self._next)

    def _pass_over(self, seconds: float) -> None:
        self._timestamp = (self._timestamp + round(seconds * _CLOCK_RATE)) & 0xFFFFFFFF

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        header = read_header(data, len(data))
        if header is None:
            return
        _, sequence, timestamp, ssrc = header
        self._counters.count(sequence, timestamp, ssrc, len(data), self._clock.now())
        if self._heard is not None:
            self._heard()


def tone(law: Law) -> bytes:
    """20 ms of a sine in G.711."""
    encode = mu_law if law == "PCMU" else a_law
    step = 2 * math.pi * _TONE_HZ / _CLOCK_RATE
    return bytes(encode(round(_AMPLITUDE * math.sin(step * n))) for n in range(_SAMPLES))


def mu_law(sample: int) -> int:
    """A sample of 16 bits in ITU-T G.711 µ-law: sign, segment, step; inverted on the wire."""
    sign, magnitude = (0x80, -sample) if sample < 0 else (0x00, sample)
    magnitude = min(magnitude, 32635) + 132
    segment = magnitude.bit_length() - 8
    return ~(sign | segment << 4 | (magnitude >> (segment + 3)) & 0x0F) & 0xFF


def a_law(sample: int) -> int:
    """A sample of 16 bits in ITU-T G.711 A-law: sign, segment, step; every other bit inverted on the wire."""
    sign, magnitude = (0x00, -sample - 1) if sample < 0 else (0x80, sample)
    magnitude = min(magnitude, 32767) >> 4
    segment = max(magnitude.bit_length() - 4, 0)
    step = magnitude & 0x0F if segment == 0 else (magnitude >> (segment - 1)) & 0x0F
    return (sign | segment << 4 | step) ^ 0x55
