"""One open pair of ports and what is done with its packets: the path of every packet, so lean.

A packet is looked at in this order: may its source speak here (else it is a stranger), is it RTP of a negotiated payload
type (else it is invalid), and then it is counted. Strangers and invalid packets are dropped, whatever they are.
"""

from __future__ import annotations

from random import getrandbits

from bridge.media.ports import Pair
from bridge.rtp.latching import Latch
from bridge.rtp.packet import can_be_silent, read_header, silence
from bridge.rtp.quality import Counters
from bridge.rtp.rules import Rule

DEFAULT_CLOCK_RATE = 8000  # until a rule says otherwise


class Session:
    """The media of one call leg. Times are seconds of the worker's steady clock."""

    __slots__ = (
        "_payload_types",
        "_receive_into",
        "_sequence",
        "_ssrc",
        "_timestamp",
        "counters",
        "heard_at",
        "latch",
        "name",
        "pair",
        "timed_out",
    )

    def __init__(self, name: str, pair: Pair, *, now: float) -> None:
        self.name = name
        self.pair = pair
        self.counters = Counters(DEFAULT_CLOCK_RATE)
        self.latch: Latch | None = None
        self.heard_at = now  # the last valid packet, or when one began to be expected
        self.timed_out = False
        self._payload_types: frozenset[int] = frozenset()
        self._receive_into = pair.rtp.recvfrom_into
        # RFC 3550 §5.1: random, so that a stream cannot be guessed.
        self._ssrc = getrandbits(32)
        self._sequence = getrandbits(16)
        self._timestamp = getrandbits(32)

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
        """Whether the far end shall hear a packet of silence now and then (RFC 6263)."""
        if self.latch is None:
            return False
        payload_type = self.latch.rule.silence_payload_type
        return payload_type is not None and can_be_silent(payload_type)

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
        self._payload_types = frozenset(rule.payload_types)
        self.counters.set_clock_rate(rule.clock_rate)
        if anew:
            self.heard_at = now
            self.timed_out = False

    def receive(self, buffer: bytearray, now: float) -> None:
        """Read one packet from the RTP port and do with it what the rule says. `buffer` is anybody's, and overwritten."""
        try:
            length, source = self._receive_into(buffer)
        except OSError:
            return  # it was withdrawn (a wrong checksum), or it is an ICMP error: the silence that follows is noticed
        latch = self.latch
        if latch is None or (source != latch.source and not latch.admits(source)):
            self.counters.strangers += 1
            return
        header = read_header(buffer, length)
        if header is None or header[0] not in self._payload_types:
            self.counters.invalid += 1
            return
        if latch.source is None:
            latch.hold(source)
        self.counters.count(header[1], header[2], header[3], length, now)
        self.heard_at = now

    def send_silence(self, *, elapsed_s: float) -> None:
        """Send the keep-alive, if it is known whereto. `elapsed_s`: how far the stream's clock has gone since the last."""
        latch = self.latch
        if latch is None or latch.destination is None or latch.rule.silence_payload_type is None:
            return
        self._sequence += 1
        self._timestamp += int(elapsed_s * latch.rule.clock_rate)
        packet = silence(latch.rule.silence_payload_type, self._sequence, self._timestamp, self._ssrc)
        try:
            self.pair.rtp.sendto(packet, latch.destination)
        except OSError:
            return  # no route, or a full buffer: the next one may pass, and the call does not depend on it
        self.counters.packets_sent += 1
        self.counters.bytes_sent += len(packet)
