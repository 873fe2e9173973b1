"""Trunks: far SIP systems that calls go by, each with several servers, and what may go by them (contract §2).

Plain data. How a call finds its way by one stands in `trunking`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, NamedTuple, TypeAlias

from bridge.calls.actions import Credentials
from bridge.calls.facts import CallId
from bridge.rtp.rules import Latching
from bridge.sip.locating import Hop
from bridge.sip.uri import SipUri

HOSTS_MOST: Final = 10_000  # remembered; then from the beginning

Network: TypeAlias = IPv4Network | IPv6Network


class Server(NamedTuple):
    """One server of a trunk."""

    uri: SipUri
    priority: int = 0  # lower ones are asked first
    weight: int = 1  # the share among those of the same priority


@dataclass(frozen=True, slots=True)
class Trunk:
    """One trunk."""

    name: str
    servers: tuple[Server, ...]
    domain: str  # behind the `@` of a number: a host, perhaps with a port
    auth: Credentials | None = None
    from_: str = ""  # the From of its INVITEs, a name-addr; empty: whoever calls
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_calls: int = 0  # at once, over all nodes; 0: any number
    calls_per_second: int = 0  # begun, over all nodes; 0: any number
    next_on: tuple[int, ...] = ()  # final responses, besides 5xx, after which the next server is asked
    sources: tuple[Network, ...] = ()  # where its calls come from, besides those of its servers that are addresses
    latching: Latching | None = None  # which sources a stream of its calls may come from; None: as everywhere

    @property
    def has_caps(self) -> bool:
        return self.max_calls > 0 or self.calls_per_second > 0

    def sends_from(self, host: str) -> bool:
        """Whether this is an address of its."""
        if any(each.uri.host.strip("[]") == host for each in self.servers):
            return True
        address = ip_address(host.partition("%")[0]) if self.sources else None
        return any(address in network for network in self.sources)


@dataclass(slots=True)
class Lookup:
    """Where the servers of a trunk are, as far as that is known."""

    call: CallId
    attempt: int
    trunk: Trunk
    servers: list[Server]  # in the order in which they are asked
    hops: list[Sequence[Hop] | None]  # of each; None: the DNS has not said yet


class Trunks:
    """The trunks there are, and what is being looked up for calls by them."""

    __slots__ = ("_known", "_named", "asked")

    def __init__(self, known: Mapping[str, Trunk]) -> None:
        """`known`: those of the configuration."""
        self._known = dict(known)
        self._named: dict[str, str] = {}  # by host, as asked before: the trunk's name; "": none has it
        self.asked: dict[int, tuple[Lookup, int]] = {}  # by reader: which server is looked for

    def change(self, trunks: Mapping[str, Trunk | None]) -> None:
        """Trunks made, changed or taken away by REST. Calls that are up stay as they are."""
        self._named.clear()
        for name, trunk in trunks.items():
            if trunk is None:
                self._known.pop(name, None)
            else:
                self._known[name] = trunk

    def get(self, name: str) -> Trunk | None:
        return self._known.get(name)

    def at(self, host: str) -> str | None:
        """The name of the trunk that sends from this address; of several the first one by name. None: nobody's."""
        if not self._known:
            return None
        name = self._named.get(host)
        if name is None:
            if len(self._named) >= HOSTS_MOST:
                self._named.clear()
            found = sorted(each.name for each in self._known.values() if each.sends_from(host))
            name = self._named[host] = found[0] if found else ""
        return name or None


@dataclass(frozen=True, slots=True)
class TrunksChanged:
    """Trunks made or changed elsewhere than in the configuration; None: there is no such trunk any more."""

    trunks: Mapping[str, Trunk | None]
