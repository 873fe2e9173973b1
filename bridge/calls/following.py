"""Where a redirect of the called leads us (§8.1.3.4): which of its contacts are asked next, in which order, and what of ours
goes along.

The contacts are used at once and never kept, so `expires` says nothing to us. A 305 names the proxy to ask for the same
party (§21.3.4); what a 380 names is something else than who was asked for (§21.3.5), and is only told. Knows nothing of
transactions, nor of how a target is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from bridge.calls.actions import Target
from bridge.calls.facts import Contact
from bridge.calls.search import REDIRECTS_MOST, InviteAttempt, Search
from bridge.sip.headers import NameAddr, contacts
from bridge.sip.message import Response
from bridge.sip.uri import SipUri, is_sips, parse_uri

CONTACTS_TOLD = 20  # of one response: an event is no place for more
_USE_PROXY, _ALTERNATIVE_SERVICE = 305, 380
_Q = re.compile(r"[01](?:\.[0-9]*+)?")


def contacts_told(response: Response) -> tuple[Contact, ...]:
    """What a 3xx names, as it stands there, in its order; nothing of other responses, nor of what cannot be read."""
    if not 300 <= response.status < 400:
        return ()
    return tuple([Contact(each.uri, _q(each)) for each in _named(response)[:CONTACTS_TOLD]])


def follow(search: Search, attempt: InviteAttempt, response: Response) -> bool:
    """Whether the redirect leads anywhere that has not been asked: its contacts wait for their turn, those of one q together."""
    if attempt.depth >= REDIRECTS_MOST or response.status == _ALTERNATIVE_SERVICE:
        return False
    found = sorted(_named(response), key=_preference, reverse=True)
    if response.status == _USE_PROXY:
        return any(_ask_by(search, attempt, uri) for uri in _uris(found, attempt))  # one is enough
    added = False
    for turn, (_, equals) in enumerate(groupby(found, _preference)):
        for uri in _uris(list(equals), attempt):
            added = _ask(search, attempt, uri, turn) or added
    return added


def _named(response: Response) -> tuple[NameAddr, ...]:
    found = contacts(response)
    return found if isinstance(found, tuple) else ()


def _uris(found: list[NameAddr], attempt: InviteAttempt) -> Iterator[SipUri]:
    """Those that an INVITE can be sent to. What a URI says of the request (§19.1.5) is not for us to put into ours."""
    for each in found:
        uri = parse_uri(each.uri)
        if not isinstance(uri, SipUri) or (uri.param("method") or "INVITE").upper() != "INVITE":
            continue
        if is_sips(attempt.target.uri) and not is_sips(str(uri)):
            continue  # what was to be secret on each hop is not told to whoever cannot keep it (RFC 5630 §5.1.1.3)
        kept = tuple([(name, value) for name, value in uri.params if name != "method"])
        yield uri._replace(params=kept, headers="")


def _ask(search: Search, attempt: InviteAttempt, uri: SipUri, turn: int) -> bool:
    for each in search.attempts:
        if not each.proxy and (_same(uri, each.target.uri) or _same(uri, each.shown)):
            return False  # it has been asked, or will be
    another = search.add(_sent_on(attempt, str(uri), uri), attempt)
    if another is None:
        return False
    another.depth, another.parent, another.turn = attempt.depth + 1, attempt.number, turn
    return True


def _ask_by(search: Search, attempt: InviteAttempt, proxy: SipUri) -> bool:
    if _same(proxy, attempt.shown) or _same(proxy, attempt.target.uri):
        return False
    for each in search.attempts:
        if _same(proxy, each.proxy) and each.target.uri == attempt.shown:
            return False
    another = search.add(_sent_on(attempt, attempt.shown, proxy), attempt)
    if another is None:
        return False
    another.depth, another.parent, another.turn = attempt.depth + 1, attempt.number, 0
    another.proxy = str(proxy)
    return True


def _sent_on(attempt: InviteAttempt, uri: str, next_hop: SipUri) -> Target:
    """The target that the INVITE to `next_hop` is for. Whom another host names has not been chosen by the application: what
    proves us, and what it says to this target alone, stays here."""
    asked = parse_uri(attempt.proxy or attempt.shown)
    if isinstance(asked, SipUri) and asked.host.lower() == next_hop.host.lower():
        return Target(uri, attempt.target.auth, attempt.target.headers)
    return Target(uri)


def _same(uri: SipUri, text: str) -> bool:
    other = parse_uri(text)
    return isinstance(other, SipUri) and uri.equivalent(other)


def _preference(contact: NameAddr) -> float:
    """Its q (§20.10); without one it is as good as any."""
    q = _q(contact)
    return 1.0 if q is None else q


def _q(contact: NameAddr) -> float | None:
    written = contact.param("q")
    if written is None:
        return None
    return min(float(written), 1.0) if _Q.fullmatch(written) else 0.0
