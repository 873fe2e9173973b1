"""Who may connect: how many connections one listener takes, from everybody and from one source, finished and begun."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

from bridge.net.connection import StreamLimits
from bridge.sip.flow import Flow


class Admission:
    """Counts the connections that peers have made to one listener."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._sources: Counter[str] = Counter()
        self._handshakes: Counter[str] = Counter()  # of those, the ones that have not agreed on anything yet

    def refusal(self, flow: Flow, connections: int) -> str:
        """Why this one may not connect, as a reason of `bridge_dropped_total`; empty: it may. `connections`: of them all."""
        source = _source(flow)
        if connections >= self._limits.connections:
            return "connections_full"
        if self._sources[source] >= self._limits.per_source:
            return "connections_full_source"
        if flow.secure and self._handshakes[source] >= self._limits.handshakes_per_source:
            return "handshakes_full_source"
        return ""

    def begun(self, flow: Flow) -> None:
        """It is accepted."""
        self._sources[_source(flow)] += 1
        self._handshakes[_source(flow)] += 1

    def settled(self, flow: Flow) -> None:
        """It is open, or never will be."""
        _take_one(self._handshakes, _source(flow))

    def gone(self, flow: Flow) -> None:
        """It holds nothing any more."""
        _take_one(self._sources, _source(flow))


def _take_one(counter: Counter[str], source: str) -> None:
    counter[source] -= 1
    if not counter[source]:
        del counter[source]


def _source(flow: Flow) -> str:
    """Who counts as one: of IPv6 anybody has 2^64 addresses."""
    return str(ip_network((flow.host.partition("%")[0], 64), strict=False)) if ":" in flow.host else flow.host
