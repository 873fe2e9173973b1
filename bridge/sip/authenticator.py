"""The server's half of digest authentication: challenges, and whether credentials are good (§22.1–§22.4, RFC 7616 §3.3).

A nonce is its time and a MAC under the cluster's secret, so any node can tell its own and another's nonces from invented
ones without having remembered them. What is remembered is the highest nonce count of each nonce that was used: a
repetition is refused by whoever saw the original. Another node did not; there a captured request is good until its nonce
is too old. Refuses to know who the users are and where their HA1s come from.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bridge.sip.digest import Algorithm, Credentials, Ha1, challenge_lines, credentials_of, response_of
from bridge.sip.headers import Line
from bridge.sip.message import Request

_TIME_LENGTH = 11  # hexadecimal milliseconds UTC, good until the year 2527
_MAC_LENGTH = 32  # 128 bits
_LONGEST = 128  # no nonce of ours is longer
_SKEW_S = 5.0  # by how much another node's clock may be ahead
_WITHOUT_COUNT = 2**32  # above every nonce count: who counts nothing has a nonce for one request


@dataclass(frozen=True, slots=True)
class Verified:
    """The request is from who knows this user's password."""

    username: str


@dataclass(frozen=True, slots=True)
class Unverified:
    """It is not known to be. What the client is told is `stale` and nothing else."""

    # `replayed`: that count was used. `stale`: the nonce is too old, or none of ours. Else the digest is wrong.
    why: Literal["wrong", "stale", "replayed"]

    @property
    def stale(self) -> bool:
        """The password was right: the client need not ask its user, only try again with a new nonce."""
        return self.why != "wrong"


Verdict: TypeAlias = Verified | Unverified


class Authenticator:
    """Challenges of one realm, and the nonces that came back."""

    __slots__ = ("_counts", "_decoy", "_floor", "_lifetime_s", "_limit", "_secret", "algorithms", "realm")

    def __init__(
        self,
        *,
        secret: bytes,
        realm: str,
        algorithms: Sequence[Algorithm],
        lifetime_s: float = 300.0,
        limit: int = 100_000,
    ) -> None:
        """`algorithms`: what challenges offer, the preferred one first. `lifetime_s`: how old a nonce may become; `limit`: of how many used ones the count is remembered."""
        self.realm = realm
        self.algorithms = tuple(algorithms)
        self._secret = secret
        self._lifetime_s = lifetime_s
        self._limit = limit
        self._counts: OrderedDict[str, int] = OrderedDict()  # the highest nonce count by nonce, in order of first use
        # Nonces made before then are good only if their count is remembered: what was used before we started, or has
        # been forgotten since, nobody here can tell from a repetition.
        self._floor: float | None = None
        decoy = hmac.digest(secret, b"nobody|", "sha256").hex()
        self._decoy = Ha1(decoy[:32], decoy, decoy)

    def __len__(self) -> int:
        return len(self._counts)

    def challenge(self, unique: str, *, now: float, stale: bool = False, proxy: bool = False) -> tuple[Line, ...]:
        """The header lines of a 401 or 407, with a new nonce. `unique`: letters and digits that no other nonce has."""
        self._begin(now)
        made = f"{round(now * 1000):0{_TIME_LENGTH}x}{unique}"
        return challenge_lines(self.realm, made + self._mac(made), self.algorithms, stale=stale, proxy=proxy)

    def credentials(self, request: Request, *, proxy: bool = False) -> Credentials | None:
        """What the request says for our realm with an algorithm that we have asked for; None: challenge it."""
        found = credentials_of(request, self.realm, proxy=proxy)
        return found if found is not None and self._asked_for(found.algorithm) else None

    def verify(self, given: Credentials, ha1: Ha1 | None, *, method: str, body: bytes = b"", now: float) -> Verdict:
        """Whether they are good. `ha1` is the user's, None where there is no such user: that takes the same work.

        The digest's URI is not held against the Request-URI, which a proxy may have changed since (§22.4).
        """
        self._begin(now)
        known = None if ha1 is None else ha1.of(given.algorithm)
        expected = response_of(given, known or self._decoy.of(given.algorithm) or "", method=method, body=body)
        right = hmac.compare_digest(expected, given.response) and known is not None
        made = self._made(given.nonce)
        if not right:
            return Unverified("wrong")
        if made is None or not -_SKEW_S <= now - made <= self._lifetime_s:
            return Unverified("stale")
        highest = self._counts.get(given.nonce)
        if highest is None:
            if self._floor is not None and made < self._floor:
                return Unverified("stale")
            highest = 0
        count = _WITHOUT_COUNT if given.nonce_count is None else given.nonce_count
        if count <= highest:
            return Unverified("replayed")
        self._remember(given.nonce, count, now)
        return Verified(given.username)

    def _asked_for(self, algorithm: Algorithm) -> bool:
        """A `-sess` form proves as much as the algorithm that it is of."""
        return algorithm in self.algorithms or algorithm.base in self.algorithms

    def _begin(self, now: float) -> None:
        if self._floor is None:
            self._floor = round(now * 1000) / 1000  # as exact as the time in a nonce

    def _remember(self, nonce: str, count: int, now: float) -> None:
        self._counts[nonce] = count
        while self._counts:
            oldest = next(iter(self._counts))
            made = self._time(oldest)
            if now - made <= self._lifetime_s:
                if len(self._counts) <= self._limit:
                    return
                self._floor = max(made + 0.001, self._floor or made)
            del self._counts[oldest]

    def _made(self, nonce: str) -> float | None:
        """When this nonce of the cluster was made (seconds UTC); None for what nobody of us has made."""
        if not nonce.isascii() or not _TIME_LENGTH + _MAC_LENGTH < len(nonce) <= _LONGEST:
            return None
        made, mac = nonce[:-_MAC_LENGTH], nonce[-_MAC_LENGTH:]
        return self._time(nonce) if hmac.compare_digest(self._mac(made), mac) else None

    @staticmethod
    def _time(nonce: str) -> float:
        return int(nonce[:_TIME_LENGTH], 16) / 1000

    def _mac(self, made: str) -> str:
        # The word and the bar keep these apart from the names that the same secret makes.
        return hmac.digest(self._secret, b"nonce|" + made.encode("ascii"), "sha256").hex()[:_MAC_LENGTH]
