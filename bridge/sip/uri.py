"""SIP, SIPS and tel URIs: §19.1, RFC 3966.

Lenient where the field is (`#` in a user part, `_` in a host), strict where leniency would change what a URI points
to. Knows nothing of where a URI stands, nor how to resolve it (RFC 3263).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from bridge.sip.grammar import MAX_PARAMETERS, Parameters, print_parameters, unescape

_ANY = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*+:[^\s<>\"]++")
# No `@` may stand unescaped in parameters or headers, so the last one, if any, ends the user part: `;` and `?` before
# it belong to the user (RFC 4475 §3.1.1.9).
_SIP = re.compile(
    r"(?:([^@:\s<>\"]++)(?::([^@\s<>\"]*+))?@)?"
    r"(\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9_.\-]++)(?::([0-9]{1,5}+))?"
    r"((?:;[^@;?\s<>\"]++)*)(?:\?([^@\s<>\"]*+))?"
)
_SIP_WITHOUT_PARAMETERS = re.compile(
    r"sips?:(?:[^@:\s<>\"]++@)?(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9_.\-]++)(?::[0-9]{1,4}+)?"
)
_TELEPHONE_NUMBER = re.compile(r"\+?[0-9A-Fa-f*#\-.()]+")
_WORD = re.compile(r"[^\s<>\"@]*+")
_VISUAL_SEPARATORS: Final = str.maketrans("", "", "-.()")
_DECISIVE: Final = ("transport", "user", "ttl", "method", "maddr")


class SipUri(NamedTuple):
    """A `sip:` or `sips:` URI (§19.1.1)."""

    scheme: str  # "sip" or "sips"
    user: str | None  # as written, `%HH` kept
    password: str | None
    host: str  # as written; IPv6 in its brackets
    port: int | None
    params: Parameters = ()
    headers: str = ""  # what follows the `?`, as written

    def __str__(self) -> str:
        user = ""
        if self.user is not None:
            user = f"{self.user}@" if self.password is None else f"{self.user}:{self.password}@"
        port = "" if self.port is None else f":{self.port}"
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{self.host}{port}{print_parameters(self.params)}{headers}"

    def param(self, name: str) -> str | None:
        """The value of a parameter, `%HH` resolved; "" for one without value, None when it is absent."""
        for each, value in self.params:
            if each == name or ("%" in each and _name(each) == name):
                return unescape(value or "")
        return None

    @property
    def transport(self) -> str | None:
        """The transport parameter in lower case, or None."""
        transport = self.param("transport")
        return transport.lower() if transport else None

    @property
    def is_lr(self) -> bool:
        """Whether this is a loose router's URI (§19.1.1)."""
        return self.param("lr") is not None

    def equivalent(self, other: SipUri) -> bool:
        """Whether both are the same URI by §19.1.4. That is not transitive, so `==` compares what is written instead."""
        return (
            self.scheme == other.scheme
            and self.port == other.port
            and self.host.lower() == other.host.lower()
            and _resolved(self.user) == _resolved(other.user)
            and _resolved(self.password) == _resolved(other.password)
            and _parameters_match(self.params, other.params)
            and _header_set(self.headers) == _header_set(other.headers)
        )


class TelUri(NamedTuple):
    """A `tel:` URI (RFC 3966)."""

    number: str  # visual separators removed, they carry no meaning (§5.1.1)
    params: Parameters = ()

    def __str__(self) -> str:
        return f"tel:{self.number}{print_parameters(self.params)}"


class OtherUri(NamedTuple):
    """A URI of any other scheme: nothing is known of what follows it."""

    scheme: str  # lower case
    rest: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


Uri: TypeAlias = SipUri | TelUri | OtherUri


def parse_uri(text: str) -> Uri | None:
    """Read a URI without brackets around it; None when it is malformed."""
    scheme, _, rest = text.partition(":")
    if scheme != "sip":
        scheme = scheme.lower()
        if scheme == "tel":
            return _telephone(rest)
        if scheme not in ("sip", "sips"):
            return OtherUri(scheme, rest) if _ANY.fullmatch(text) else None
    match = _SIP.fullmatch(rest)
    if match is None:
        return None
    user, password, host, port, written, headers = match.groups()
    params = _parameters(written) if written else ()
    number = None if port is None else int(port)
    if params is None or (number is not None and number > 65535):
        return None
    return SipUri(scheme, user, password, host, number, params, headers or "")


def is_uri(text: str) -> bool:
    """Whether `parse_uri` would read it, without making anything of it: the check of each Request-URI."""
    match = _SIP_WITHOUT_PARAMETERS.fullmatch(text)
    return match is not None or parse_uri(text) is not None


def is_sips(text: str) -> bool:
    """Whether this is a SIPS URI: one that is to be reached by TLS alone, on every hop (§19.1, §26.2.2)."""
    return text[:5].lower() == "sips:"


def _telephone(rest: str) -> TelUri | None:
    number, semicolon, written = rest.partition(";")
    if _TELEPHONE_NUMBER.fullmatch(number) is None:
        return None
    params = _parameters(semicolon + written) if _WORD.fullmatch(written) else None
    return None if params is None else TelUri(number.translate(_VISUAL_SEPARATORS), params)


def _parameters(written: str) -> Parameters | None:
    """`;name=value…` of a URI: no quotes, no white space in it, as its caller has seen to."""
    pieces = written.split(";", MAX_PARAMETERS + 1)
    if len(pieces) > MAX_PARAMETERS + 1:
        return None
    found: list[tuple[str, str | None]] = []
    for piece in pieces[1:]:
        name, equals, value = piece.partition("=")
        if not name:
            return None
        found.append((name.lower(), value if equals else None))
    return tuple(found)


def _name(written: str) -> str:
    """What a parameter is called, however that is escaped (RFC 4475 §3.1.1.3)."""
    return unescape(written).lower()


def _resolved(part: str | None) -> str | None:
    return None if part is None else unescape(part)


def _parameters_match(ours: Parameters, theirs: Parameters) -> bool:
    """One in both must agree; one in only one is ignored, except those that change where or how a request goes."""
    left = {_name(name): unescape(value or "").lower() for name, value in ours}
    right = {_name(name): unescape(value or "").lower() for name, value in theirs}
    if any((name in left) != (name in right) for name in _DECISIVE):
        return False
    return all(right[name] == value for name, value in left.items() if name in right)


def _header_set(headers: str) -> frozenset[tuple[str, str]]:
    if not headers:
        return frozenset()
    pairs = (each.partition("=") for each in headers.split("&"))
    return frozenset((unescape(name).lower(), unescape(value)) for name, _, value in pairs)
