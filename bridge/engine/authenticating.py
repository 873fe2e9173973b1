"""Who is it? Digest challenges to REGISTER and INVITE, and what their senders have proved (§22.2, contract §6).

What is answered never says whether a user exists: a wrong password and an unknown name get the same 401, made with the
same work. Where the answer is 403, its receiver has proved who it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bridge.engine.carrying import sip_outcomes
from bridge.engine.effects import Noted
from bridge.engine.holdings import Holdings
from bridge.engine.registrations import User
from bridge.sip.authenticator import Verified
from bridge.sip.endpoint import RequestArrived
from bridge.sip.grammar import readable
from bridge.sip.headers import Line
from bridge.sip.registrar import AddressOfRecord, address_of_record
from bridge.sip.uri import SipUri, parse_uri
from bridge.sip.user_agent import respond

_UNIQUE_LENGTH = 16  # characters of five random bits each
_SHOWN = 64  # characters of a stranger's username in the log


@dataclass(frozen=True, slots=True)
class Caller:
    """An INVITE may go on."""

    username: str | None  # who proved to be its sender; None: nobody had to


@dataclass(frozen=True, slots=True)
class Unproven:
    """The sender has been challenged, for the first time or again."""

    failed: User | None = None  # the user whose password it got wrong


def is_ours(holdings: Holdings, uri: str) -> bool:
    """Whether the host of this URI is one of our domains. No domains mean any."""
    domains = holdings.settings.domains
    parsed = parse_uri(uri)
    return isinstance(parsed, SipUri) and (not domains or parsed.host.lower().rstrip(".") in domains)


def may_be(user: User, aor: AddressOfRecord) -> bool:
    """Whether this address of record, at a domain of ours, is this user's."""
    if user.aor is not None:
        return user.aor == aor
    return aor.removeprefix("sip:").rpartition("@")[0] == user.username


def caller(holdings: Holdings, arrived: RequestArrived, *, now: float) -> Caller | None:
    """Who sends this INVITE, as far as it has to be proved (`sip.authenticate`); None: it has been answered."""
    policy, registrar = holdings.settings.registrar.authenticate, holdings.registrar
    if policy == "none" or (policy == "registered" and not registrar.has_users):
        return Caller(None)
    if holdings.trunks.at(arrived.flow.host) is not None:
        return Caller(None)  # a trunk has its address, and no password of ours
    uri = arrived.request.from_.uri
    claimed = address_of_record(uri) if is_ours(holdings, uri) else None
    owner = registrar.user_of(claimed) if claimed is not None else None
    # At a domain that we are named for nobody else has an address: who claims one that does not exist is challenged like
    # one that does, or the answer would tell which are there.
    claims = owner is not None or (
        claimed is not None and bool(holdings.settings.domains) and not holdings.admission.trusts(arrived.flow.host)
    )
    if policy == "registered" and not claims:
        return Caller(None)
    user = prove(holdings, arrived, now=now)
    if isinstance(user, Unproven):
        return None
    if owner is not None and owner != user:
        facts = (("username", user.username), ("from", readable(uri)), ("source", str(arrived.flow)))
        holdings.out.append(Noted("warning", "caller_is_another", None, facts))
        answer(holdings, arrived, 403, now=now)
        return None
    return Caller(user.username)


def prove(holdings: Holdings, arrived: RequestArrived, *, now: float) -> User | Unproven:
    """The user whose password the sender of this request knows; otherwise it has got its 401."""
    request, registrar = arrived.request, holdings.registrar
    given = registrar.authenticator.credentials(request)
    if given is None:
        challenge(holdings, arrived, now=now)
        return Unproven()
    user = registrar.user(given.username)
    ha1 = user.ha1 if user is not None else None
    verdict = registrar.authenticator.verify(given, ha1, method=request.method, body=request.body, now=now)
    if isinstance(verdict, Verified) and user is not None:
        return user
    why = "wrong" if isinstance(verdict, Verified) else verdict.why
    facts = (
        ("why", why if user is not None else "unknown_user"),
        ("username", readable(given.username)[:_SHOWN]),
        ("method", request.method),
        ("source", str(arrived.flow)),
    )
    holdings.out.append(Noted("debug" if why == "stale" else "warning", "authentication_failed", None, facts))
    if why == "wrong":
        _count(holdings, arrived, given.username, now=now)
    challenge(holdings, arrived, stale=why != "wrong", now=now)
    return Unproven(user if why == "wrong" else None)


def _count(holdings: Holdings, arrived: RequestArrived, username: str, *, now: float) -> None:
    """A wrong digest, of somebody there is or not."""
    banned = holdings.admission.failed(arrived.flow.host, username[:_SHOWN], now=now)
    if banned is not None:
        facts = (("source", banned.source), ("for_s", banned.for_s), ("flow", str(arrived.flow)))
        holdings.out.append(Noted("warning", "source_banned", None, facts))


def challenge(holdings: Holdings, arrived: RequestArrived, *, stale: bool = False, now: float) -> None:
    """401, with a nonce of its own."""
    unique = holdings.tokens.token(_UNIQUE_LENGTH)
    answer(holdings, arrived, 401, holdings.registrar.authenticator.challenge(unique, stale=stale, now=now), now=now)


def answer(
    holdings: Holdings,
    arrived: RequestArrived,
    status: int,
    headers: Iterable[Line] = (),
    reason: str | None = None,
    *,
    now: float,
) -> None:
    """A final response. Where the transaction is gone nobody waits for it."""
    if holdings.endpoint.state(arrived.key) is None:
        return
    lines = (("Server", holdings.settings.server), *headers)
    response = respond(arrived.request, status, reason, headers=lines)
    sip_outcomes(holdings, holdings.endpoint.respond(arrived.key, response, now=now))
