"""Whom an application may call: patterns of users and hosts, held against each target and each redirect before it is asked.

What is compared is what the target says, not where it leads: a number as `+49…` and as `0049…` are two, so it is the list
of what is allowed that protects, and what is denied are its exceptions. Refuses to know dial plans and names' addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.grammar import unescape
from bridge.sip.uri import SipUri, TelUri, parse_uri

_SEPARATORS = str.maketrans("", "", "-.()")  # RFC 3966 §3: seen by people, and by nobody else


@dataclass(frozen=True, slots=True)
class Destinations:
    """`user`, `user@host`, each part with a `*` at the end of the user, or alone for the host."""

    allowed: tuple[str, ...] | None = None  # None: everybody
    denied: tuple[str, ...] = ()  # of those

    def permit(self, target: str) -> bool:
        """Whether this URI may be called. One that is no SIP, SIPS or tel URI may not, where anything is restricted."""
        if self.allowed is None and not self.denied:
            return True
        uri = parse_uri(target)
        if isinstance(uri, TelUri):
            user, host = uri.number, ""
        elif isinstance(uri, SipUri):
            user, host = unescape(uri.user or "").partition(";")[0], uri.host.lower().rstrip(".")
        else:
            return False
        names = {user, user.translate(_SEPARATORS)}  # a name may have a dot that means something
        if any(_fits(pattern, name, host) for pattern in self.denied for name in names):
            return False
        return self.allowed is None or any(_fits(pattern, name, host) for pattern in self.allowed for name in names)


ANYWHERE = Destinations()


def _fits(pattern: str, user: str, host: str) -> bool:
    wanted, _, where = pattern.partition("@")
    if where not in ("", "*", host):
        return False
    return user.startswith(wanted[:-1]) if wanted.endswith("*") else user == wanted
