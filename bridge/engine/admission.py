"""Who is heard at all: known scanners, sources that ask too much, sources that guess passwords (contract §6).

Looked at before a message is parsed, at a cost that depends neither on how many sources there are nor on what they send:
the first 2 KiB are searched, the rest is a look-up. Responses and requests within a dialog are everybody's right, a banned
source's too: a guesser behind the NAT of an office does not cut off the office's calls.

Every table is bounded, and what was seen longest ago is forgotten first; bans have a table of their own, out of which no
number of harmless sources pushes one. Refuses to know what a digest is, and the clock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

Network: TypeAlias = IPv4Network | IPv6Network
Value = TypeVar("Value")

# What the tools call themselves in User-Agent and From, in lower case. Who hides its name meets the other limits.
SCANNERS: Final = (
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sundayddr",
    "vaxsipuseragent",
    "vaxipuseragent",
    "pplsip",
    "iwar",
)

_HEAD = 2048  # bytes of a message that are looked at
_WINDOW_S = 60.0  # what failures are counted over
_HOT = 3  # a name that has so many times a source's failures is being guessed at by many ...
_HOT_WEIGHT = 5  # ... and each of them has so many times fewer tries
_REFUSALS_PER_SECOND = 10.0  # of one source: whoever floods is not worth an answer each


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What the operator allows."""

    requests_per_second: float = 200.0  # out of dialog, of one source
    burst: float = 1000.0  # at once, after a rest
    failures: float = 20.0  # wrong digests of one source in a minute; one more is a ban
    ban_s: float = 60.0  # the first; each further one is twice as long ...
    ban_max_s: float = 3600.0  # ... up to this
    scanners: tuple[str, ...] = ()  # more names like SCANNERS
    trusted: tuple[Network, ...] = ()  # whoever is there is subject to nothing of this
    sources_max: int = 10_000  # in each table


class TurnedAway(NamedTuple):
    """Not heard."""

    reason: Literal["banned", "scanner", "rate_limited", "rate_limited_silently"]  # of `bridge_dropped_total`

    @property
    def answer(self) -> bool:
        """Whether it is told so."""
        return self.reason == "rate_limited"


class Banned(NamedTuple):
    """A source is not heard for a while."""

    source: str
    for_s: float


class _Bucket:
    """Tokens that come back with time."""

    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at

    def take(self, cost: float, *, rate: float, most: float, now: float) -> bool:
        """Whether there was so much."""
        self.tokens = min(most, self.tokens + max(0.0, now - self.at) * rate)
        self.at = now
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True


class _Source:
    """What one source may still ask."""

    __slots__ = ("refusals", "requests")

    def __init__(self, burst: float, now: float) -> None:
        self.requests = _Bucket(burst, now)
        self.refusals = _Bucket(_REFUSALS_PER_SECOND, now)


class _Ban:
    __slots__ = ("strikes", "until")

    def __init__(self) -> None:
        self.strikes = 0
        self.until = 0.0


class Admission:
    """What is known of the sources that one node hears."""

    __slots__ = ("_bans", "_failures", "_guessed", "_limits", "_scanners", "_sources", "_trusted")

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._scanners = tuple(name.lower().encode() for name in (*SCANNERS, *limits.scanners))
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._failures: OrderedDict[str, _Bucket] = OrderedDict()
        self._guessed: OrderedDict[str, _Bucket] = OrderedDict()  # by username, whether there is such a user or not
        self._bans: OrderedDict[str, _Ban] = OrderedDict()
        self._trusted: dict[str, bool] = {}  # by host, as asked before

    def __len__(self) -> int:
        """Entries in the largest table."""
        return max(len(self._sources), len(self._failures), len(self._guessed), len(self._bans), len(self._trusted))

    def look(self, data: bytes, host: str, *, now: float) -> TurnedAway | None:
        """Whether this message of `host`, an address, is heard; None: it is."""
        head = data[:_HEAD].lower()
        if head.startswith(b"sip/2.0 ") or _within_dialog(head) or self.trusts(host):
            return None
        source = source_of(host)
        if self._bans and self.bans(source, now=now) and not head.startswith(b"cancel "):
            return TurnedAway("banned")
        if self._scans(head):
            return TurnedAway("scanner")
        limits, known = self._limits, self._sources.get(source)
        if known is None:
            known = _remember(self._sources, source, _Source(limits.burst, now), limits.sources_max)
        else:
            self._sources.move_to_end(source)
        if known.requests.take(1.0, rate=limits.requests_per_second, most=limits.burst, now=now):
            return None
        told = known.refusals.take(1.0, rate=_REFUSALS_PER_SECOND, most=_REFUSALS_PER_SECOND, now=now)
        return TurnedAway("rate_limited" if told else "rate_limited_silently")

    def failed(self, host: str, username: str, *, now: float) -> Banned | None:
        """A digest from there was wrong; whether that was one too many."""
        if self.trusts(host):
            return None
        limits, source = self._limits, source_of(host)
        most = limits.failures * _HOT
        is_hot = not self._bucket(self._guessed, username, most, now).take(
            1.0, rate=most / _WINDOW_S, most=most, now=now
        )
        tries = self._bucket(self._failures, source, limits.failures, now)
        cost = _HOT_WEIGHT if is_hot else 1.0
        if tries.take(cost, rate=limits.failures / _WINDOW_S, most=limits.failures, now=now):
            return None
        tries.tokens = limits.failures  # once the ban is over it may try again
        return self._ban(source, now=now)

    def bans(self, source: str, *, now: float) -> bool:
        """Whether `source_of` somebody is banned."""
        ban = self._bans.get(source)
        if ban is None:
            return False
        if now >= ban.until + self._limits.ban_max_s:  # it has behaved for long enough
            del self._bans[source]
        return now < ban.until

    def trusts(self, host: str) -> bool:
        """Whether it is in one of the networks that no limit is for."""
        networks = self._limits.trusted
        if not networks:
            return False
        found = self._trusted.get(host)
        if found is None:
            if len(self._trusted) >= self._limits.sources_max:
                self._trusted.clear()
            address = ip_address(host.partition("%")[0])
            found = self._trusted[host] = any(address in network for network in networks)
        return found

    def _ban(self, source: str, *, now: float) -> Banned:
        limits, ban = self._limits, self._bans.get(source)
        if ban is None or now >= ban.until + limits.ban_max_s:
            ban = _remember(self._bans, source, _Ban(), limits.sources_max)
        for_s = min(limits.ban_max_s, limits.ban_s * 2.0 ** min(ban.strikes, 32))
        ban.strikes, ban.until = ban.strikes + 1, now + for_s
        self._bans.move_to_end(source)
        return Banned(source, for_s)

    def _bucket(self, table: OrderedDict[str, _Bucket], key: str, most: float, now: float) -> _Bucket:
        found = table.get(key)
        if found is None:
            return _remember(table, key, _Bucket(most, now), self._limits.sources_max)
        table.move_to_end(key)
        return found

    def _scans(self, head: bytes) -> bool:
        said = _line(head, b"\nuser-agent:") + (_line(head, b"\nfrom:") or _line(head, b"\nf:"))
        return any(name in said for name in self._scanners)


@lru_cache(maxsize=4096)
def source_of(host: str) -> str:
    """Who counts as one: of IPv6 anybody has 2^64 addresses."""
    if ":" not in host:
        return host
    return str(ip_network((host.partition("%")[0], 64), strict=False))


def _within_dialog(head: bytes) -> bool:
    return b"tag=" in (_line(head, b"\nto:") or _line(head, b"\nt:"))


def _line(head: bytes, name: bytes) -> bytes:
    at = head.find(name)
    if at < 0:
        return b""
    end = head.find(b"\n", at + 1)
    return head[at:] if end < 0 else head[at:end]


def _remember(table: OrderedDict[str, Value], key: str, value: Value, most: int) -> Value:
    table[key] = value
    if len(table) > most:
        table.popitem(last=False)
    return value
