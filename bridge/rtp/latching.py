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

    __slots__ = ("destination", "rule", "source")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.source: Address | None = None
        self.destination: Address | None = _destination(rule)

    def renew(self, rule: Rule) -> None:
        """Take a newer rule; a newer generation opens the latch again.

        Behind a NAT an unchanged far end is still sent to where it was last heard: its side of the NAT stays open.
        """
        before, self.rule = self.rule, rule
        if rule.generation == before.generation:
            if self.source is None:
                self.destination = _destination(rule)
            return
        self.source = None
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


def _where(rule: Rule) -> tuple[str, int] | None:
    """What the far end's SDP names; None where it wants nothing sent."""
    if rule.remote_host is None or rule.remote_host in _NOWHERE or rule.remote_port == 0:
        return None
    return rule.remote_host, rule.remote_port


def _destination(rule: Rule) -> Address | None:
    """Where to send before anything was heard."""
    return None if rule.behind_nat and rule.latching != "off" else _where(rule)
