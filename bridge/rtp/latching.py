"""Who may send to a port, and where we send: the media rules of the contract (its §8) for one stream.

The hole that "rtpbleed" uses is a server that takes whatever source it hears. Here a stranger is never taken: a `strict`
latch looks among the addresses that signalling vouches for, and once a source is held nobody else is heard until offer
and answer have spoken again. Refuses to know about sockets; an address is whatever tuple a socket gives.
"""

from __future__ import annotations

from typing import TypeAlias

from bridge.rtp.rules import Rule

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]  # (host, port), and for IPv6 two numbers more

_NOWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 -- the old hold's addresses (RFC 3264 §8.4), compared only


class Latch:
    """The source a stream is held to, once known, and the destination that follows from it.

    A caller on the packet path compares `source` itself, and asks `admits` only when it differs.
    """

    __slots__ = ("destination", "report_source", "rule", "source")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.source: Address | None = None
        self.destination: Address | None = _destination(rule)
        self.report_source: Address | None = None

    def renew(self, rule: Rule) -> None:
        """Take a newer rule; a newer generation opens the latch again.

        Behind a NAT an unchanged far end is still sent to where it was last heard: its side of the NAT stays open.
        """
        before, self.rule = self.rule, rule
        if rule.generation == before.generation:
            if self.source is None:
                self.destination = _destination(rule)
            return
        self.source = self.report_source = None
        if _where(rule) != _where(before):
            self.destination = _destination(rule)

    def admits(self, source: Address) -> bool:
        """Whether a packet from here may be looked at."""
        rule = self.rule
        if rule.latching == "off":
            return source[0] == rule.remote_host and source[1] == rule.remote_port
        if self.source is not None:
            return source == self.source
        return rule.latching == "learn" or source[0] in rule.sources

    def hold(self, source: Address) -> None:
        """A valid packet came from an admitted source: nobody else is heard, and (off aside) it is sent to (RFC 4961)."""
        self.source = source
        if self.rule.latching != "off" and _where(self.rule) is not None:
            self.destination = source
        if self.report_source is not None and self.report_source[0] != source[0]:
            self.report_source = None

    # The RTCP port, the next above that of RTP (RFC 3550 §11): the address is the media's, the port is latched by itself

    def admits_report(self, source: Address) -> bool:
        """Whether an RTCP packet from here may be looked at. `learn` learns from media only."""
        rule = self.rule
        if rule.latching == "off":
            return source[0] == rule.remote_host and source[1] == rule.remote_port + 1
        if self.report_source is not None:
            return source == self.report_source
        if self.source is not None:
            return source[0] == self.source[0]
        return rule.latching == "strict" and source[0] in rule.sources

    def hold_report(self, source: Address) -> None:
        """A valid report came from an admitted source."""
        self.report_source = source

    @property
    def report_destination(self) -> Address | None:
        """Where to send reports: where they come from, else the port above the media's; behind a NAT that would be a guess."""
        media = self.destination
        if media is None:
            return None
        if self.rule.latching != "off":
            if self.report_source is not None:
                return self.report_source
            if self.rule.behind_nat:
                return None
        if media[1] == 0xFFFF:
            return None  # there is none above
        return (media[0], media[1] + 1) if len(media) == 2 else (media[0], media[1] + 1, *media[2:])


def _where(rule: Rule) -> tuple[str, int] | None:
    """What the far end's SDP names; None where it wants nothing sent."""
    if rule.remote_host is None or rule.remote_host in _NOWHERE or rule.remote_port == 0:
        return None
    return rule.remote_host, rule.remote_port


def _destination(rule: Rule) -> Address | None:
    """Where to send before anything was heard."""
    return None if rule.behind_nat and rule.latching != "off" else _where(rule)
