"""A message whose call is at another node is passed on as it is (survival §3).

Our tags and branches name their call, and a CANCEL names it as its INVITE does; a node that does not have it keeps no state
and adds no Via. An INVITE cannot be told from a new one: it collides in the store with the call that it has made already.
Refuses to know which node has the call: whoever carries the effect out finds that.
"""

from __future__ import annotations

from bridge.calls.facts import CallId
from bridge.engine.commit import UNNAMED
from bridge.engine.effects import Dropped, PassOn
from bridge.engine.holdings import Holdings, Leg
from bridge.sip.endpoint import RequestArrived
from bridge.sip.flow import Flow
from bridge.sip.message import Request, Response
from bridge.sip.replaces import parse_replaces
from bridge.sip.transaction import client_key, server_key


def passed_on(holdings: Holdings, message: Request | Response, data: bytes, flow: Flow) -> bool:
    """Whether this is for a call that is not here. Asked of every message, so what is here is told first, and cheaply."""
    named = _of_response(holdings, message) if isinstance(message, Response) else _of_request(holdings, message)
    if named is None:
        return False
    call, hint = named
    holdings.out.append(PassOn(call, hint, data, flow))
    return True


def pass_invite_on(holdings: Holdings, leg: Leg) -> None:
    """An INVITE that has made its call at another node already; once, for a call that has ended is at none."""
    call = leg.call
    if leg.passed_on:
        holdings.out.append(Dropped("late_invite", call.way))
    elif call.invite is not None:
        holdings.out.append(PassOn(call.id, "", call.invite.encode(), call.way))


def pass_new_on(holdings: Holdings, arrived: RequestArrived) -> None:
    """A call that shall begin at a node that does not drain."""
    holdings.endpoint.abandon(arrived.key)
    holdings.out.append(PassOn(UNNAMED, "", arrived.request.encode(), arrived.flow))


def _of_response(holdings: Holdings, response: Response) -> tuple[CallId, str] | None:
    if holdings.endpoint.state(client_key(response)) is not None:
        return None
    branch = response.via.branch
    call = holdings.names.call_of_branch(branch)
    if call is None or branch is None or call in holdings.legs:
        return None
    return call, holdings.names.hint_of_branch(branch)


def _of_request(holdings: Holdings, request: Request) -> tuple[CallId, str] | None:
    tag = request.to_tag
    if tag is not None:
        if holdings.names.call_claimed_by(tag) in holdings.legs:
            return None
        call = holdings.names.call_of_tag(tag)
        if call is None or holdings.endpoint.state(server_key(request)) is not None:
            return None  # nobody's tag, or a repetition of what ended its call here
        return call, holdings.names.hint_of(tag)
    if request.method == "CANCEL" and holdings.endpoint.state(server_key(request, "INVITE")) is None:
        call = holdings.names.inbound_call(request.call_id, request.from_tag or "", request.cseq.number)
        return None if call in holdings.legs else (call, "")
    replaces = request.headers.get("Replaces") if request.method == "INVITE" else None
    return None if replaces is None else _of_replaced(holdings, request, replaces)


def _of_replaced(holdings: Holdings, request: Request, value: str) -> tuple[CallId, str] | None:
    """An INVITE that is to take the place of a call goes where that one is (RFC 3891)."""
    named = parse_replaces(value)
    call = holdings.names.call_of_tag(named.to_tag) if named is not None else None
    if named is None or call is None or call in holdings.legs:
        return None
    if holdings.endpoint.state(server_key(request)) is not None:
        return None  # a repetition of what has been answered here
    return call, holdings.names.hint_of(named.to_tag)
