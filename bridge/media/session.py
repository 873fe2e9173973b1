"""One open pair of ports and what is done with its packets: the path of every packet, so lean.

A packet is looked at in this order: may its source speak here (else it is a stranger), is it RTP of a negotiated payload
type (else it is invalid), then it is counted, and handed to the exit, which is the session that hears it. Strangers and
invalid packets are dropped, whatever they are. Once the source is known, the kernel does the first look: what comes from it has
a socket of its own. Reports (RTCP) come to the port above and go the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from random import getrandbits
from typing import Protocol

from bridge.media.ports import Pair
from bridge.media.readers import Readers
from bridge.rtp.latching import Address, Latch
from bridge.rtp.packet import can_be_silent, payload_start, read_header, silence
from bridge.rtp.quality import Counters, Quality
from bridge.rtp.rtcp import FarEnd, read_reports
from bridge.rtp.rules import Rule
from bridge.rtp.telephone_event import Digit, DigitAssembler

DEFAULT_CLOCK_RATE = 8000  # until a rule says otherwise
PAYLOAD_TYPES = 128

# What is to be done with a payload type: the type under which it leaves, or one of these.
_INVALID = -1
_KEPT = -2  # counted, and that is all
_EVENT = 0x80  # beside the type: a telephone-event (RFC 4733), looked into before it leaves
_EVENT_KEPT = 0x100


class Exit(Protocol):
    """Where relayed packets leave. What is handed over is only valid during the call, and may be overwritten after it."""

    def send_media(self, packet: memoryview, now: float) -> int:
        """How many packets have left: 1, or 0 where the far end is not known yet or wants nothing."""
        ...

    def send_reports(self, packet: memoryview, now: float) -> None:
        """An RTCP packet. Nobody counts on it."""
        ...


class Session:
    """The media of one call leg. Times are seconds of the worker's steady clock. It is an `Exit` for others."""

    __slots__ = (
        "_digits",
        "_far_end",
        "_on_digits",
        "_readers",
        "_receive_held",
        "_send_held",
        "_sequence",
        "_silence_at",
        "_ssrc",
        "_timestamp",
        "_treatment",
        "counters",
        "exit",
        "heard_at",
        "latch",
        "name",
        "pair",
        "sent_at",
        "timed_out",
    )

    def __init__(
        self,
        name: str,
        pair: Pair,
        *,
        readers: Readers,
        on_digits: Callable[[Session, tuple[Digit, ...]], None],
        now: float,
    ) -> None:
        """`on_digits` hears of keys that are over, and with none that the time until `digits_deadline` has moved."""
        self.name = name
        self.pair = pair
        self.counters = Counters(DEFAULT_CLOCK_RATE)
        self.latch: Latch | None = None
        self.exit: Exit | None = None
        self.heard_at = now  # the last valid packet, or when one began to be expected
        self.sent_at: float | None = None  # the last packet to the far end
        self.timed_out = False
        self._on_digits = on_digits
        self._digits = DigitAssembler(DEFAULT_CLOCK_RATE)
        self._far_end = FarEnd()
        self._treatment = [_INVALID] * PAYLOAD_TYPES
        self._readers = readers
        self._receive_held: Callable[[memoryview], int] | None = None
        self._send_held: Callable[[memoryview], int] | None = None
        # RFC 3550 §5.1: random, so that a stream cannot be guessed.
        self._ssrc = getrandbits(32)
        self._sequence = getrandbits(16)
        self._timestamp = getrandbits(32)
        self._silence_at: float | None = None  # the stream's clock runs between its packets

    def open(self) -> None:
        """Begin to read."""
        self._readers.watch(self.pair.rtp, self.receive)
        self._readers.watch(self.pair.rtcp, self.receive_reports)

    def close(self) -> None:
        """Read no more."""
        self._let_go()
        self._readers.unwatch(self.pair.rtp)
        self._readers.unwatch(self.pair.rtcp)

    @property
    def rule(self) -> Rule | None:
        """The rule in force."""
        return None if self.latch is None else self.latch.rule

    @property
    def expects_media(self) -> bool:
        """Whether silence of the far end means that something is wrong."""
        return self.latch is not None and self.latch.rule.expects_media

    @property
    def wants_keep_alive(self) -> bool:
        """Whether the far end, if it hears nobody, shall hear a packet of silence now and then (RFC 6263)."""
        if self.latch is None:
            return False
        payload_type = self.latch.rule.silence_payload_type
        return payload_type is not None and can_be_silent(payload_type)

    @property
    def digits_deadline(self) -> float | None:
        """When `expire_digits` is due; None: no key is down."""
        return self._digits.deadline

    def apply(self, rule: Rule, *, now: float) -> None:
        """Take a rule, unless a newer one is in force. A new exchange of offer and answer starts the wait for media anew."""
        latch = self.latch
        if latch is None:
            self.latch = Latch(rule)
            anew = True
        elif rule.generation < latch.rule.generation:
            return
        else:
            anew = rule.generation > latch.rule.generation or (rule.expects_media and not latch.rule.expects_media)
            latch.renew(rule)
            if latch.source is None:
                self._let_go()
        self._treatment = _treatment(rule)
        self.counters.set_clock_rate(rule.clock_rate)
        self._digits.set_clock_rate(rule.clock_rate)
        if anew:
            self.heard_at = now
            self.timed_out = False

    def receive(self, buffer: memoryview, now: float) -> None:
        """Read one packet from the RTP port and do with it what the rule says. `buffer` is anybody's, and overwritten."""
        try:
            length, source = self.pair.rtp.recvfrom_into(buffer)
        except OSError:
            return  # it was withdrawn (a wrong checksum), or it is an ICMP error: the silence that follows is noticed
        self._take_from(source, buffer, length, now)

    def receive_held(self, buffer: memoryview, now: float) -> None:
        """Likewise from the socket that hears only the source that the stream is held to: nearly every packet."""
        if self._receive_held is None:
            return  # let go in this very turn of the loop
        try:
            length = self._receive_held(buffer)
        except OSError:
            return
        self._take(buffer, length, now)

    def receive_reports(self, buffer: memoryview, now: float) -> None:
        """The same for the RTCP port."""
        try:
            length, source = self.pair.rtcp.recvfrom_into(buffer)
        except OSError:
            return
        latch = self.latch
        if latch is None or not latch.admits_report(source):
            self.counters.strangers += 1
            return
        reports = read_reports(buffer, length)
        if reports is None:
            self.counters.invalid += 1
            return
        latch.hold_report(source)
        self._far_end.said(reports, now=now)
        if self.exit is not None and latch.rule.relays_rtcp:
            self.exit.send_reports(buffer[:length], now)

    def send_media(self, packet: memoryview, now: float) -> int:
        """Send what another session has received to our far end. See `Exit`."""
        latch = self.latch
        if latch is None or latch.destination is None:
            return 0
        try:
            if self._send_held is not None:
                self._send_held(packet)
            else:
                self.pair.rtp.sendto(packet, latch.destination)
        except OSError:
            return 0  # no route, or a full buffer: one packet of many
        counters = self.counters
        counters.packets_sent += 1
        counters.bytes_sent += len(packet)
        self.sent_at = now
        return 1

    def send_reports(self, packet: memoryview, now: float) -> None:
        """Likewise its reports. See `Exit`."""
        destination = None if self.latch is None else self.latch.report_destination
        reports = read_reports(packet, len(packet))
        if destination is None or reports is None:
            return
        try:
            self.pair.rtcp.sendto(packet, destination)
        except OSError:
            return  # another follows in five seconds
        self._far_end.was_sent(reports, now=now)

    def send_silence(self, *, now: float) -> None:
        """Send the keep-alive, if it is known whereto."""
        latch = self.latch
        if latch is None or latch.destination is None or latch.rule.silence_payload_type is None:
            return
        self._sequence += 1
        if self._silence_at is not None:
            self._timestamp += int((now - self._silence_at) * latch.rule.clock_rate)
        self._silence_at = now
        packet = silence(latch.rule.silence_payload_type, self._sequence, self._timestamp, self._ssrc)
        self.send_media(memoryview(packet), now)

    def expire_digits(self, *, now: float) -> None:
        """`digits_deadline` has come: a key whose end was lost is over."""
        self._on_digits(self, self._digits.expire(now=now))

    def quality(self) -> Quality:
        """The figures now."""
        return self.counters.quality(self._far_end)

    def _take_from(self, source: Address, buffer: memoryview, length: int, now: float) -> None:
        """A packet from somewhere."""
        latch = self.latch
        if latch is None or (source != latch.source and not latch.admits(source)):
            self.counters.strangers += 1
            return
        first = latch.source is None and self._is_media(buffer, length)
        if first:
            latch.hold(source)
        self._take(buffer, length, now)
        if first:
            self._hold(source, buffer, now)

    def _take(self, buffer: memoryview, length: int, now: float) -> None:
        """A packet from where packets may come from."""
        counters = self.counters
        header = read_header(buffer, length)
        if header is None:
            counters.invalid += 1
            return
        payload_type, sequence, timestamp, ssrc = header
        leaves_as = self._treatment[payload_type]
        if leaves_as == _INVALID:
            counters.invalid += 1
            return
        counters.count(sequence, timestamp, ssrc, length, now)
        self.heard_at = now
        if leaves_as >= _EVENT:
            self._hear_event(buffer[:length], timestamp, ssrc, now)
            leaves_as = _KEPT if leaves_as == _EVENT_KEPT else leaves_as - _EVENT
        if leaves_as >= 0 and self.exit is not None:
            if leaves_as != payload_type:
                buffer[1] = buffer[1] & 0x80 | leaves_as  # the marker stays
            counters.packets_relayed += self.exit.send_media(buffer[:length], now)

    def _is_media(self, buffer: memoryview, length: int) -> bool:
        header = read_header(buffer, length)
        return header is not None and self._treatment[header[0]] != _INVALID

    def _hold(self, source: Address, buffer: memoryview, now: float) -> None:
        """Have the kernel tell the source from strangers. Where it cannot, every packet is looked at here, as the first was."""
        held = self.pair.hold(source)
        if held is None:
            return
        try:
            while True:  # what came while it was not connected yet
                length, source = held.recvfrom_into(buffer)
                self._take_from(source, buffer, length, now)
        except OSError:
            pass  # everything is read, or what has come is an error: the next packet will tell
        self._receive_held, self._send_held = held.recv_into, held.send
        self._readers.watch(held, self.receive_held)

    def _let_go(self) -> None:
        held = self.pair.held
        if held is not None:
            self._receive_held = self._send_held = None
            self._readers.unwatch(held)
            self.pair.let_go()

    def _hear_event(self, packet: memoryview, timestamp: int, ssrc: int, now: float) -> None:
        payload = packet[payload_start(packet) :]
        self._on_digits(self, self._digits.hear(payload, timestamp, ssrc, now=now))


def _treatment(rule: Rule) -> list[int]:
    """By payload type, what `receive` does with it: one look per packet."""
    found = [_INVALID] * PAYLOAD_TYPES
    leaving = {} if rule.muted else dict(rule.payload_map)
    for payload_type in rule.payload_types:
        if 0 <= payload_type < PAYLOAD_TYPES:
            found[payload_type] = leaving.get(payload_type, _KEPT)
            if payload_type in rule.dtmf_payload_types:
                found[payload_type] = leaving[payload_type] + _EVENT if payload_type in leaving else _EVENT_KEPT
    return found
