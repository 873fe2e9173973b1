"""Digest authentication: RFC 2617 §3 and RFC 7616 §3 as SIP uses them (§22), with the algorithms of RFC 8760.

Challenges and credentials read and written, what they are hashed from, the client's answer to a challenge. MD5, SHA-256,
SHA-512-256 and their `-sess` forms; other algorithms and other schemes are passed over, as RFC 8760 §2.4 wants it. Refuses to know
whose password it is and which nonces are good: those are `nonces`.

A quoted value is kept as it stands between its quotes, escapes included: that is what is hashed (`unq` of RFC 7616 §3.4)
and what is echoed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import md5, new, sha256
from typing import Final, NamedTuple

from bridge.errors import LocalProtocolError
from bridge.sip.grammar import MAX_PARAMETERS, quote, unquote
from bridge.sip.headers import HasHeaders, Line

MAX_CHALLENGES: Final = 16  # of one message that are looked at
_SCHEME: Final = "digest"

# `name=value` with its comma, and before the first one of a challenge or of credentials the scheme.
_PARAMETER = re.compile(
    r"[ \t,]*+(?:([A-Za-z0-9\-.!%*_+`'~]++)[ \t]++(?=[A-Za-z0-9\-.!%*_+`'~]++[ \t]*+=))?"
    r"([A-Za-z0-9\-.!%*_+`'~]++)[ \t]*+=[ \t]*+(\"[^\"\\]*+(?:\\.[^\"\\]*+)*\"|[^\s\",]*+)[ \t]*+(?=,|\Z)",
    re.DOTALL,
)
_HEX = re.compile(r"[0-9A-Fa-f]+")


class Algorithm(StrEnum):
    """What hashes, weakest first (RFC 8760 §2.3)."""

    MD5 = "MD5"
    MD5_SESS = "MD5-sess"
    SHA_256 = "SHA-256"
    SHA_256_SESS = "SHA-256-sess"
    SHA_512_256 = "SHA-512-256"
    SHA_512_256_SESS = "SHA-512-256-sess"

    @property
    def is_session(self) -> bool:
        """Whether A1 is bound to one nonce and cnonce (RFC 7616 §3.4.2)."""
        return self.value.endswith("-sess")

    @property
    def base(self) -> Algorithm:
        """The algorithm itself: what a stored HA1 was made with."""
        return _BASES[self]

    def hash(self, data: bytes) -> str:
        """H(data), in lower-case hexadecimal."""
        match self.base:
            case Algorithm.MD5:
                return md5(data, usedforsecurity=False).hexdigest()
            case Algorithm.SHA_256:
                return sha256(data).hexdigest()
        return new("sha512_256", data).hexdigest()


_BASES: Final = {each: Algorithm(each.value.removesuffix("-sess")) for each in Algorithm}
_ALGORITHMS: Final = {each.value.lower(): each for each in Algorithm}
_STRENGTH: Final = {each: rank for rank, each in enumerate(Algorithm)}
_LENGTHS: Final = {Algorithm.MD5: 32, Algorithm.SHA_256: 64, Algorithm.SHA_512_256: 64}  # of a hash in hexadecimal


@dataclass(frozen=True, slots=True)
class Ha1:
    """H(username:realm:password) by algorithm, in lower-case hexadecimal: as good as the password within its realm."""

    md5: str | None = None
    sha_256: str | None = None
    sha_512_256: str | None = None

    def __repr__(self) -> str:
        return "Ha1(***)"

    def of(self, algorithm: Algorithm) -> str | None:
        """The one that `algorithm` starts from, or None."""
        match algorithm.base:
            case Algorithm.MD5:
                return self.md5
            case Algorithm.SHA_256:
                return self.sha_256
        return self.sha_512_256


class Challenge(NamedTuple):
    """One challenge of a 401 or 407 that we could answer."""

    realm: str
    nonce: str
    algorithm: Algorithm = Algorithm.MD5
    qop: tuple[str, ...] = ()  # "auth", "auth-int"; empty: the peer knows RFC 2069 only
    opaque: str | None = None
    stale: bool = False  # the credentials were right, the nonce is used up
    proxy: bool = False  # by Proxy-Authenticate: answered in Proxy-Authorization


class Credentials(NamedTuple):
    """What an Authorization or Proxy-Authorization says."""

    name: str  # the username as written, escapes kept
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: Algorithm = Algorithm.MD5
    qop: str | None = None  # as written, which is how it was hashed; None: RFC 2069
    cnonce: str = ""
    nc: str | None = None  # the nonce count as written; None without qop

    @property
    def username(self) -> str:
        """The username, escapes resolved."""
        return unquote(f'"{self.name}"')

    @property
    def nonce_count(self) -> int | None:
        """How many requests have borne this nonce, by the client's word; None where it does not count."""
        return None if self.nc is None else int(self.nc, 16)


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """No answer can be given to these challenges. `why`: there is none that we know how to answer; none is for that
    realm; no HA1 is at hand for its algorithm."""

    why: str


def make_ha1(username: str, realm: str, password: str) -> Ha1:
    """What stands for the password from here on."""
    text = f"{_inner(username)}:{_inner(realm)}:{password}".encode("utf-8", "surrogateescape")
    return Ha1(Algorithm.MD5.hash(text), Algorithm.SHA_256.hash(text), Algorithm.SHA_512_256.hash(text))


def challenges_of(message: HasHeaders) -> tuple[Challenge, ...]:
    """The challenges of a response that can be answered, in their order; what is malformed or unknown is not there."""
    found = [
        challenge
        for name in ("WWW-Authenticate", "Proxy-Authenticate")
        for said in _sayings(message, name)
        if (challenge := _challenge(said, proxy=name == "Proxy-Authenticate")) is not None
    ]
    return tuple(found[:MAX_CHALLENGES])


def credentials_of(message: HasHeaders, realm: str, *, proxy: bool = False) -> Credentials | None:
    """The credentials of a request for this realm; None where there are none that can be read (§22.2, §22.3)."""
    for said in _sayings(message, "Proxy-Authorization" if proxy else "Authorization"):
        found = _credentials(said)
        if found is not None and found.realm == _inner(realm):
            return found
    return None


def choose(challenges: Iterable[Challenge], *, realm: str | None = None) -> Challenge | None:
    """The challenge to answer: the strongest algorithm, and the first of several as strong."""
    wanted = None if realm is None else _inner(realm)
    usable = [each for each in challenges if wanted is None or each.realm == wanted]
    return max(usable, key=lambda each: _STRENGTH[each.algorithm], default=None)


def authorize(
    challenges: Iterable[Challenge],
    *,
    method: str,
    uri: str,
    username: str,
    password: str | Ha1,
    body: bytes = b"",
    nonce_count: int = 1,
    cnonce: str,
    realm: str | None = None,
) -> Line | Unanswerable:
    """The header line that answers the strongest of the challenges (of `realm`, where one is given).

    `uri` is the Request-URI; `body` is hashed where a peer takes nothing but `auth-int`. `nonce_count` counts our
    requests with this nonce from 1; `cnonce` is unguessable, of characters that need no quotes.
    """
    challenge = choose(challenges, realm=realm)
    if challenge is None:
        return Unanswerable("no challenge that we know how to answer" if realm is None else f"no challenge of {realm}")
    algorithm = challenge.algorithm
    known = password if isinstance(password, Ha1) else _ha1(challenge, username, password)
    ha1 = known.of(algorithm)
    if ha1 is None:
        return Unanswerable(f"the password is not known in a form for {algorithm}")
    qop = next((each for each in ("auth", "auth-int") if each in challenge.qop), None)
    if nonce_count < 1:
        raise LocalProtocolError("a nonce count begins with 1")
    given = Credentials(
        name=_inner(username),
        realm=challenge.realm,
        nonce=challenge.nonce,
        uri=uri,
        response="",
        algorithm=algorithm,
        qop=qop,
        cnonce=cnonce if qop is not None or algorithm.is_session else "",
        nc=f"{nonce_count:08x}" if qop is not None else None,
    )
    given = given._replace(response=response_of(given, ha1, method=method, body=body))
    return ("Proxy-Authorization" if challenge.proxy else "Authorization", _print(given, challenge.opaque))


def response_of(given: Credentials, ha1: str, *, method: str, body: bytes = b"") -> str:
    """The `response` that belongs to these credentials (RFC 7616 §3.4.1); with the one that they bear it has no concern."""
    algorithm = given.algorithm
    a2 = f"{method}:{given.uri}"
    if given.qop is not None and given.qop.lower() == "auth-int":
        a2 = f"{a2}:{algorithm.hash(body)}"
    if algorithm.is_session:
        ha1 = _hash(algorithm, f"{ha1}:{given.nonce}:{given.cnonce}")
    ha2 = _hash(algorithm, a2)
    if given.qop is None:
        return _hash(algorithm, f"{ha1}:{given.nonce}:{ha2}")  # RFC 2069
    return _hash(algorithm, f"{ha1}:{given.nonce}:{given.nc}:{given.cnonce}:{given.qop}:{ha2}")


def challenge_lines(
    realm: str, nonce: str, algorithms: Iterable[Algorithm], *, stale: bool = False, proxy: bool = False
) -> tuple[Line, ...]:
    """One challenge per algorithm, the preferred one first (RFC 8760 §2.4); a client takes the first that it knows."""
    name = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
    past = ", stale=true" if stale else ""
    return tuple(
        (name, f'Digest realm={quote(realm)}, nonce="{nonce}", algorithm={algorithm}, qop="auth"{past}')
        for algorithm in algorithms
    )


def _sayings(message: HasHeaders, name: str) -> list[dict[str, str]]:
    """Each challenge or each credentials of the Digest scheme, as its parameters, names in lower case.

    A line holds one (§7.3.1); some write several behind each other, as HTTP does.
    """
    found: list[dict[str, str]] = []
    for line in message.headers.lines(name)[:MAX_CHALLENGES]:
        found += [said for scheme, said in _read(line) if scheme == _SCHEME]
    return found


def _read(line: str) -> list[tuple[str, dict[str, str]]]:
    """(scheme, parameters) of a line up to its end or to what cannot be read; what is malformed is left out whole."""
    found: list[tuple[str, dict[str, str]]] = []
    position, end, count = 0, len(line.rstrip(" \t,")), 0
    while position < end:
        match = _PARAMETER.match(line, position)
        count += 1
        if match is None or count > MAX_PARAMETERS:
            return found[:-1]
        scheme, name, value = match.groups()
        if scheme is not None:
            found.append((scheme.lower(), {}))
        elif not found:
            return []
        said = found[-1][1]
        if name.lower() in said:
            return found[:-1]  # said twice, and who knows which of them another one reads
        said[name.lower()] = value
        position = match.end()
    return found


def _challenge(said: Mapping[str, str], *, proxy: bool) -> Challenge | None:
    algorithm = _algorithm(said)
    if algorithm is None or "realm" not in said or "nonce" not in said:
        return None
    offered = tuple(each.strip(" \t").lower() for each in _bare(said, "qop").split(",") if each.strip(" \t"))
    qop = tuple(each for each in offered if each in ("auth", "auth-int"))
    if offered and not qop:
        return None  # it wants what we do not know
    opaque = _bare(said, "opaque") if "opaque" in said else None
    stale = _bare(said, "stale").lower() == "true"
    return Challenge(_bare(said, "realm"), _bare(said, "nonce"), algorithm, qop, opaque, stale, proxy)


def _credentials(said: Mapping[str, str]) -> Credentials | None:
    algorithm = _algorithm(said)
    if algorithm is None or any(name not in said for name in ("username", "realm", "nonce", "uri", "response")):
        return None
    qop, count = _bare(said, "qop") or None, None
    response = _bare(said, "response").lower()
    if len(response) != _LENGTHS[algorithm.base] or _HEX.fullmatch(response) is None:
        return None
    if qop is not None:
        count = _bare(said, "nc")
        if qop.lower() not in ("auth", "auth-int") or len(count) != 8 or _HEX.fullmatch(count) is None:
            return None
        if "cnonce" not in said:
            return None
    return Credentials(
        name=_bare(said, "username"),
        realm=_bare(said, "realm"),
        nonce=_bare(said, "nonce"),
        uri=_bare(said, "uri"),
        response=response,
        algorithm=algorithm,
        qop=qop,
        cnonce=_bare(said, "cnonce"),
        nc=count,
    )


def _algorithm(said: Mapping[str, str]) -> Algorithm | None:
    return _ALGORITHMS.get(_bare(said, "algorithm").lower()) if "algorithm" in said else Algorithm.MD5


def _bare(said: Mapping[str, str], name: str) -> str:
    """A value without its quotes, its escapes as they are; "" when it is absent."""
    value = said.get(name, "")
    return value[1:-1] if value[:1] == '"' else value


def _inner(text: str) -> str:
    """`text` as it stands between quotes."""
    return quote(text)[1:-1]


def _ha1(challenge: Challenge, username: str, password: str) -> Ha1:
    algorithm = challenge.algorithm.base
    hashed = _hash(algorithm, f"{_inner(username)}:{challenge.realm}:{password}")
    match algorithm:
        case Algorithm.MD5:
            return Ha1(md5=hashed)
        case Algorithm.SHA_256:
            return Ha1(sha_256=hashed)
    return Ha1(sha_512_256=hashed)


def _hash(algorithm: Algorithm, text: str) -> str:
    return algorithm.hash(text.encode("utf-8", "surrogateescape"))


def _print(given: Credentials, opaque: str | None) -> str:
    """Which of them bear quotes is RFC 7616 §3.4's word, and old servers insist on it."""
    parts = [
        f'username="{given.name}"',
        f'realm="{given.realm}"',
        f'nonce="{given.nonce}"',
        f'uri="{given.uri}"',
        f'response="{given.response}"',
        f"algorithm={given.algorithm}",
    ]
    if given.cnonce:
        parts.append(f'cnonce="{given.cnonce}"')
    if given.qop is not None:
        parts += [f"qop={given.qop}", f"nc={given.nc}"]
    if opaque is not None:
        parts.append(f'opaque="{opaque}"')
    return "Digest " + ", ".join(parts)
