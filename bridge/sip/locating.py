"""Locating SIP servers: the transports, addresses and ports that a URI stands for, in the order in which they are tried.

RFC 3263 §4.1 (which transport: NAPTR, else SRV), §4.2 (which port and address) and RFC 2782 (the order of SRV records). Says
which questions are to be asked before that can be told; who asks them is none of its business. `ws` and `wss` have no
SRV records of their own (RFC 7118 §5.1), so they are found by their addresses. `maddr` is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Literal, NamedTuple, TypeAlias

from bridge.sip.flow import default_port
from bridge.sip.uri import SipUri

HOPS_MOST: Final = 8  # of one URI: nobody would wait for more

_SECURED: Final = {"udp": "tls", "tcp": "tls", "ws": "wss"}
_SERVICES: Final = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}  # in the order in which we prefer them
_BY_NAPTR: Final = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}


class Wanted(NamedTuple):
    """What a URI says of the way to it."""

    host: str  # a name in lower case, or an IP address without brackets
    port: int | None = None
    transport: str | None = None  # the one that it insists on: "udp", "tcp", "tls", ...; None: whichever there is
    secure: bool = False  # TLS or not at all (§26.2.2)


class Hop(NamedTuple):
    """One way to a server."""

    transport: str
    host: str  # an IP address without brackets
    port: int


class Question(NamedTuple):
    """What is to be asked of the DNS. `addresses`: A and AAAA, and whatever else the system knows hosts by."""

    kind: Literal["naptr", "srv", "addresses"]
    name: str


class Naptr(NamedTuple):
    """A NAPTR record (RFC 3403 §4.1)."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Srv(NamedTuple):
    """An SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str  # "." or empty: decidedly not offered here


Record: TypeAlias = Naptr | Srv | str  # str: an IP address
Spoken: TypeAlias = Collection[tuple[str, int]]  # transports that we can send by, each with the version of IP
Answers: TypeAlias = Mapping[Question, tuple[Record, ...]]


@dataclass(frozen=True, slots=True)
class Missing:
    """These have to be answered first, an answer without records included."""

    questions: tuple[Question, ...]


class _Known:
    """The answers so far, and which were looked for in vain."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.missing: dict[Question, None] = {}

    def naptr(self, name: str) -> list[Naptr]:
        return [each for each in self._of(Question("naptr", name)) if isinstance(each, Naptr)]

    def srv(self, name: str) -> list[Srv]:
        return [each for each in self._of(Question("srv", name)) if isinstance(each, Srv)]

    def addresses(self, name: str) -> list[str]:
        if is_address(name):
            return [name]
        return [each for each in self._of(Question("addresses", name)) if isinstance(each, str)]

    def _of(self, question: Question) -> tuple[Record, ...]:
        found = self._answers.get(question)
        if found is None:
            self.missing[question] = None
            return ()
        return found


def wanted_of(uri: SipUri, *, secure: bool = False) -> Wanted:
    """The way to a URI; `secure`: it has to be TLS although the URI does not say so."""
    secure = secure or uri.scheme == "sips"
    transport = uri.transport
    if secure and transport is not None:
        transport = _SECURED.get(transport, transport)
    return Wanted(uri.host.strip("[]").lower().rstrip("."), uri.port, transport, secure)


def transport_of(wanted: Wanted) -> str:
    """The transport, where neither NAPTR nor SRV says which (RFC 3263 §4.1)."""
    return wanted.transport or ("tls" if wanted.secure else "udp")


def without_questions(wanted: Wanted) -> Hop | None:
    """Where an IP address is, for which nobody has to be asked; None for a name."""
    if not is_address(wanted.host):
        return None
    transport = transport_of(wanted)
    return Hop(transport, wanted.host, wanted.port or default_port(transport))


def locate(
    wanted: Wanted, answers: Answers, *, spoken: Spoken, chance: Callable[[], float]
) -> tuple[Hop, ...] | Missing:
    """The ways to it, first the one to try first; none where there is no such host.

    Those that we cannot go are left out, unless there are no others. `chance`: a number from 0.0 to 1.0.
    """
    known = _Known(answers)
    servers = _servers(wanted, known, {transport for transport, _ in spoken}, chance)
    hops = [Hop(transport, host, port) for transport, name, port in servers for host in known.addresses(name)]
    if known.missing:
        return Missing(tuple(known.missing))
    ours = [each for each in hops if (each.transport, 6 if ":" in each.host else 4) in spoken]
    return tuple(dict.fromkeys(ours or hops))[:HOPS_MOST]


def in_turn(records: Collection[Srv], chance: Callable[[], float]) -> list[Srv]:
    """Lower priorities first; within one, each is the next with a probability that is proportional to its weight."""
    ordered = []
    for priority in sorted({each.priority for each in records}):
        left = sorted((each for each in records if each.priority == priority), key=lambda each: each.weight)
        while left:
            total = sum(each.weight for each in left)
            point = min(int(chance() * (total + 1)), total)
            for each in left:
                point -= each.weight
                if point <= 0:
                    ordered.append(each)
                    left.remove(each)
                    break
    return ordered


def is_address(host: str) -> bool:
    """Whether this is an IP address, without brackets."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _servers(
    wanted: Wanted, known: _Known, transports: Collection[str], chance: Callable[[], float]
) -> list[tuple[str, str, int]]:
    """(transport, name, port) of each. What is still missing shows in `known`."""
    usual = transport_of(wanted)
    if wanted.port is not None or is_address(wanted.host):
        return [(usual, wanted.host, wanted.port or default_port(usual))]
    found: list[tuple[str, str, int]] = []
    refused = False
    for transport, name in _services(wanted, known, transports):
        for each in in_turn(known.srv(name), chance):
            target = each.target.rstrip(".").lower()
            if target:
                found.append((transport, target, each.port))
            else:
                refused = True
    if found or refused or known.missing:
        return found
    return [(usual, wanted.host, default_port(usual))]


def _services(wanted: Wanted, known: _Known, transports: Collection[str]) -> list[tuple[str, str]]:
    """(transport, name of its SRV records) of each that may be used."""
    if wanted.transport is not None:
        service = _SERVICES.get(wanted.transport)
        return [] if service is None else [(wanted.transport, f"{service}.{wanted.host}")]
    usable = [each for each in _SERVICES if each in transports and (each == "tls" or not wanted.secure)]
    named = [
        each
        for each in known.naptr(wanted.host)
        if each.flags.lower() == "s" and _BY_NAPTR.get(each.service.upper()) in usable
    ]
    if known.missing:
        return []
    if named:
        # The lowest order that has anything for us is the only one that counts (RFC 3403 §4.1).
        first = min(each.order for each in named)
        named = sorted((each for each in named if each.order == first), key=lambda each: each.preference)
        return [(_BY_NAPTR[each.service.upper()], each.replacement.rstrip(".").lower()) for each in named]
    return [(each, f"{_SERVICES[each]}.{wanted.host}") for each in usable]
