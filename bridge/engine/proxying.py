"""The proxy role in the engine (§16): what a call that is passed on asks of its node, and what passes through us of dialogs that
we have only recorded our route in.

A copy of an INVITE is made from what is stored of it, so that whoever carries the call on makes the same bytes. A request
within a dialog, its answer and a late 2xx are passed on without a memory (§16.11): our Record-Route and our branches bear a
MAC, so any node of ours knows them for ours, and nobody can have us send what we have not been a party to.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from bridge.calls.call import Call
from bridge.calls.passage import (
    AnsweredAfterAll,
    CancelCopy,
    CopyAnswered,
    CopyLocated,
    CopySilent,
    CopyUndeliverable,
    Passage,
    PassageOpened,
    PassageRefused,
    TargetsFound,
)
from bridge.engine.effects import Resolve
from bridge.engine.holdings import Holdings, Leg, OurRequest, Proxied
from bridge.engine.inputs import Resolved
from bridge.engine.locating import held_flow, places_of, registered, route_of
from bridge.engine.registrations import BindingsRead, ReadBindings
from bridge.engine.seeking import flow_towards, listener_for
from bridge.sip import proxy
from bridge.sip.endpoint import Outcome, RequestArrived, fill_via, response_flow
from bridge.sip.flow import Flow, Send, default_port
from bridge.sip.headers import Via
from bridge.sip.locating import wanted_of, without_questions
from bridge.sip.message import Request, Response
from bridge.sip.proxy import Admitted, Interface
from bridge.sip.response_context import Progress
from bridge.sip.target_set import Target
from bridge.sip.transaction import State, TransactionKey, client_key
from bridge.sip.uri import SipUri, is_sips, parse_uri
from bridge.sip.user_agent import Refused, refuse

_THROUGH_MOST = 1_000  # requests within dialogs that wait for the DNS; more are dropped, and come again
_STATEFUL = "p"  # how the number of a copy's branch begins


# What a call asks


def open_passage(holdings: Holdings, leg: Leg) -> None:
    """Whether its INVITE may pass (§16.3)."""
    call = leg.call
    if call.invite is None:
        return
    made = proxy.admit(call.invite, holdings.proxy, came_by=interface(holdings, call.way))
    if isinstance(made, Refused):
        holdings.errands.append((call.id, PassageRefused(made.status, made.reason, tuple(made.headers))))
    else:
        holdings.errands.append((call.id, PassageOpened(made.loop, proxy.max_breadth(call.invite))))


def look_up(holdings: Holdings, leg: Leg, text: str) -> None:
    """What a target stands for: an address of record of ours for all its contacts, anything else for itself."""
    uri = parse_uri(text)
    aor = registered(holdings, uri) if isinstance(uri, SipUri) else None
    if aor is not None:
        holdings.out.append(ReadBindings(holdings.new_reader(leg.call.id, 0), aor))
        return
    found: tuple[tuple[Target, Flow | None], ...] = ()
    if isinstance(uri, SipUri) and not holdings.proxy.is_meant(uri):
        outbound = holdings.settings.outbound_proxy
        found = ((Target(text, path=() if outbound is None else (route_of(outbound),)), None),)
    holdings.errands.append((leg.call.id, TargetsFound(found)))


def bindings_read(holdings: Holdings, given: BindingsRead, *, now: float) -> bool:
    """What is bound to an address of record that a passage asks for; False: it is another's who asks."""
    leg = _passing_leg(holdings, given.reader)
    if leg is None:
        return False
    del holdings.readers[given.reader]
    if given.bindings is None:
        holdings.errands.append((leg.call.id, TargetsFound(None)))
        return True
    secure = leg.call.invite is not None and is_sips(leg.call.invite.uri)
    alive = [each for each in given.bindings if each.expires_at > now]
    held = [
        (each, flow)
        for each in sorted(alive, key=lambda each: (each.q, each.expires_at), reverse=True)
        if (flow := held_flow(holdings, each)) is not None
    ]
    # RFC 5630 §5.4: who was asked for by `sips:` is reached by a SIPS contact and TLS, or not at all.
    usable = [(each, flow) for each, flow in held if (flow.secure if is_sips(each.contact) else not secure)]
    preferred = {each.contact: each.q for each, _ in reversed(usable)}
    found = tuple([(Target(place.uri, preferred[place.uri], place.routes), place.flow) for place in places_of(usable)])
    holdings.errands.append((leg.call.id, TargetsFound(found)))
    return True


def locate_copy(holdings: Holdings, leg: Leg, number: int) -> None:
    """Where the copy for a target goes (RFC 3263)."""
    passage, target = _target_of(leg.call, number)
    admitted = _admitted(leg.call, passage)
    uri = parse_uri(proxy.next_hop(admitted, target))
    if not isinstance(uri, SipUri):
        holdings.errands.append((leg.call.id, CopyUndeliverable(number)))
        return
    wanted = wanted_of(uri, secure=is_sips(target.uri))
    hop = without_questions(wanted)
    if hop is None:
        spoken = frozenset((each.transport, each.version) for each in holdings.settings.listeners.values())
        holdings.out.append(Resolve(holdings.new_reader(leg.call.id, number), wanted, spoken))
        return
    flow = flow_towards(holdings, hop, uri.host)
    holdings.errands.append((leg.call.id, CopyUndeliverable(number) if flow is None else CopyLocated(number, flow)))


def resolved(holdings: Holdings, given: Resolved, *, now: float) -> bool:
    """Where a name leads that a copy, or a request within a dialog, goes to; False: it is another's who asks."""
    through = holdings.through.pop(given.reader, None)
    if through is not None:
        host, admitted, came_by = through
        flows = [flow for hop in given.hops if (flow := flow_towards(holdings, hop, host)) is not None]
        if flows:
            _send_through(holdings, admitted, came_by, flows[0])
        return True
    leg = _passing_leg(holdings, given.reader)
    if leg is None:
        return False
    _, number = holdings.readers.pop(given.reader)
    passage, target = _target_of(leg.call, number)
    uri = parse_uri(proxy.next_hop(_admitted(leg.call, passage), target))
    host = uri.host if isinstance(uri, SipUri) else ""
    hops = holdings.outages.in_turn(given.hops, now=now)
    flows = [flow for hop in hops if (flow := flow_towards(holdings, hop, host)) is not None]
    holdings.errands.append((leg.call.id, CopyLocated(number, flows[0]) if flows else CopyUndeliverable(number)))
    return True


def sign(holdings: Holdings, call: Call, number: int) -> None:
    """Write down what the Via of a copy will say: whoever carries the call on has to repeat it."""
    copy = _passage(call).copies[number]
    if copy.flow is not None:
        copy.sent_by = holdings.settings.listener_of(copy.flow).sent_by


def send_copy(holdings: Holdings, leg: Leg, number: int, *, now: float) -> list[Outcome]:
    """A copy leaves. One that is not wanted any more never does, and says nothing."""
    passage = leg.call.passage
    if passage is None or number >= len(passage.copies) or leg.call.invite is None:
        return []
    copy = passage.copies[number]
    if copy.canceled:
        holdings.errands.append((leg.call.id, CopySilent(number)))
        return []
    request, flow = _copy(holdings, leg.call, number), copy.flow
    if flow is None:
        return []
    _remember(holdings, leg, number, request, flow)
    return holdings.endpoint.request(request, flow, now=now)


def cancel_copy(holdings: Holdings, leg: Leg, wanted: CancelCopy, *, now: float) -> list[Outcome]:
    """CANCEL a copy, as soon as that is allowed (§9.1)."""
    key = _key(holdings, leg.call, wanted.serial, wanted.loop, wanted.attempt)
    lines = () if wanted.reason is None else (("Reason", wanted.reason),)
    return holdings.endpoint.cancel(key, headers=lines, now=now)


def abandon_copy(holdings: Holdings, leg: Leg, number: int) -> None:
    passage = _passage(leg.call)
    key = _key(holdings, leg.call, passage.serial, passage.loop, number)
    holdings.endpoint.abandon(key)
    holdings.ours.pop(key, None)


def abandon(holdings: Holdings, call: Call) -> None:
    """Forget the copies that are out, without a word to anybody: they are another node's affair."""
    passage = call.passage
    for number in range(len(passage.copies)) if passage is not None else ():
        key = _key(holdings, call, _passage(call).serial, _passage(call).loop, number)
        holdings.endpoint.abandon(key)
        holdings.ours.pop(key, None)


def pass_back(holdings: Holdings, leg: Leg, response: Response, *, now: float) -> list[Outcome]:
    """A 2xx for the caller: in the transaction of its INVITE while that has no answer, else past it."""
    call = leg.call
    if call.invite_key is not None and holdings.endpoint.state(call.invite_key) in (State.PROCEEDING, State.ACCEPTED):
        return holdings.endpoint.respond(call.invite_key, response, now=now)
    return [Send(_back(response.via, call.way), response.encode())]


def answered(
    holdings: Holdings, leg: Leg | None, ours: OurRequest, response: Response
) -> CopyAnswered | AnsweredAfterAll | None:
    """A response to a copy, for the call; None: the call waits for none, and a 2xx has gone back to the caller."""
    proxied = ours.proxied
    if proxied is None:
        return None
    if leg is not None and leg.call.passage is not None and leg.call.passage.serial == proxied.serial:
        return CopyAnswered(proxied.attempt, response)
    if 200 <= response.status < 300:
        back = proxy.backward(response, holdings.proxy)
        if back is not None and leg is not None:
            return AnsweredAfterAll(back, ours.request.uri)
        if back is not None:
            holdings.out.append(Send(_back(back.via, proxied.back), back.encode()))
    return None


def take_up(holdings: Holdings, leg: Leg, *, now: float) -> list[Outcome]:
    """Go on with the copies that a dead process has sent. Those that nobody has answered go out again, to the byte; those that
    ring are waited for. One whose answers go to an address that is not ours is given up, as well as can be (survival §4.6)."""
    passage, outcomes = leg.call.passage, list[Outcome]()
    if passage is None or passage.context is None or leg.call.invite is None:
        return outcomes
    for number, progress in enumerate(passage.context.progress):
        copy = passage.copies[number]
        flow = copy.flow
        if progress is Progress.FINISHED or flow is None:
            continue
        request = _copy(holdings, leg.call, number)
        _remember(holdings, leg, number, request, flow)
        reaches_us = copy.sent_by == holdings.settings.listener_of(flow).sent_by
        recent = copy.sent_at > now - holdings.settings.timers.b
        if reaches_us and progress is Progress.SENT and recent and not copy.canceled:
            outcomes += holdings.endpoint.request(request, flow, now=now)
            continue
        holdings.endpoint.take_up(request, flow)
        if copy.canceled or not reaches_us or progress is Progress.SENT:
            outcomes += holdings.endpoint.cancel(client_key(request), now=now)
        if not reaches_us or (progress is Progress.SENT and not copy.canceled):
            holdings.errands.append((leg.call.id, CopyUndeliverable(number)))
    return outcomes


# What passes through us


def passes_through(holdings: Holdings, arrived: RequestArrived) -> bool:
    """Whether a request within a dialog follows our Record-Route to somebody else: then it is on its way."""
    request = arrived.request
    if request.to_tag is None or not _follows_us(holdings, request):
        return False
    if not _pass_through(holdings, request, arrived.flow):
        return False
    holdings.endpoint.abandon(arrived.key)
    return True


def ack_passes_through(holdings: Holdings, ack: Request, flow: Flow) -> bool:
    """The same of an ACK, which nobody answers."""
    if not _follows_us(holdings, ack):
        return False
    fill_via(ack, flow)
    return _pass_through(holdings, ack, flow)


def passes_back(holdings: Holdings, response: Response) -> bool:
    """Whether a response that no transaction waits for is one to something that we have passed on: it goes on its way (§16.7
    step 5 for a late 2xx, §16.11 for the rest)."""
    back = proxy.backward(response, holdings.proxy)
    branch = response.via.branch
    if back is None or branch is None or not (_is_through(holdings, branch, back.via) or _is_late(holdings, response)):
        return False
    flow = _flow_of(holdings, back.via)
    if flow is None:
        return False
    holdings.out.append(Send(flow, back.encode()))
    return True


def _follows_us(holdings: Holdings, request: Request) -> bool:
    if "Route" not in request.headers:
        return False
    mark = proxy.mark_of(request, holdings.proxy)
    return mark.isascii() and hmac.compare_digest(mark, holdings.names.mark(request.call_id))


def _pass_through(holdings: Holdings, request: Request, flow: Flow) -> bool:
    """§16.11. False: it leads to ourselves."""
    came_by = interface(holdings, flow)
    made = proxy.admit(request, holdings.proxy, came_by=came_by)
    if isinstance(made, Refused):
        if request.method != "ACK":
            holdings.out.append(Send(response_flow(request, flow), refuse(request, made).encode()))
        return True
    if made.fixed is None:
        return False
    uri = parse_uri(proxy.next_hop(made, made.fixed))
    if not isinstance(uri, SipUri):
        return True
    wanted = wanted_of(uri, secure=is_sips(made.fixed.uri))
    hop = without_questions(wanted)
    if hop is not None:
        way = flow_towards(holdings, hop, uri.host)
        if way is not None:
            _send_through(holdings, made, came_by, way)
    elif len(holdings.through) < _THROUGH_MOST:
        spoken = frozenset((each.transport, each.version) for each in holdings.settings.listeners.values())
        holdings.ticket += 1
        holdings.through[holdings.ticket] = (uri.host, made, came_by)
        holdings.out.append(Resolve(holdings.ticket, wanted, spoken))
    return True


def send_on(holdings: Holdings, made: Admitted, target: Target, came: Flow, flow: Flow) -> None:
    """A request outside of any dialog goes on to `target`, and so will those of the dialog that it may make (§16.11)."""
    copy = proxy.forward(
        made,
        target,
        branch=proxy.branch(_token(holdings, made.request.via), made.loop),
        came_by=interface(holdings, came),
        leaves_by=interface(holdings, flow),
        record_route=True,
        mark=holdings.names.mark(made.request.call_id),
    )
    holdings.out.append(Send(flow, copy.encode()))


def _send_through(holdings: Holdings, made: Admitted, came_by: Interface, flow: Flow) -> None:
    if made.fixed is None:
        return
    branch = proxy.branch(_token(holdings, made.request.via), made.loop)
    copy = proxy.forward(
        made,
        made.fixed,
        branch=branch,
        came_by=came_by,
        leaves_by=interface(holdings, flow),
        record_route=False,
    )
    holdings.out.append(Send(flow, copy.encode()))


def _token(holdings: Holdings, via: Via) -> str:
    """The same for each repetition of a request, and known for ours in its answer, which brings this Via back."""
    return holdings.names.mark(f"{via.sent_by}\n{via.branch}")


def _is_through(holdings: Holdings, branch: str, next_via: Via) -> bool:
    return branch.startswith(proxy.branch(_token(holdings, next_via), ""))


def _is_late(holdings: Holdings, response: Response) -> bool:
    """A 2xx to a copy whose transaction is over."""
    branch = response.via.branch or ""
    late = response.cseq.method == "INVITE" and 200 <= response.status < 300
    return late and f".{_STATEFUL}" in branch and holdings.names.call_of_branch(branch) is not None


# Small things


def _passing_leg(holdings: Holdings, reader: int) -> Leg | None:
    call_id, _ = holdings.readers.get(reader, (None, 0))
    leg = holdings.legs.get(call_id) if call_id is not None else None
    return leg if leg is not None and leg.call.passage is not None and leg.call.search is None else None


def _passage(call: Call) -> Passage:
    if call.passage is None:
        raise AssertionError("a call that is passed on has a passage")
    return call.passage


def _target_of(call: Call, number: int) -> tuple[Passage, Target]:
    passage = _passage(call)
    if passage.context is None:
        raise AssertionError("a copy has a target")
    return passage, passage.context.attempts[number]


def _admitted(call: Call, passage: Passage) -> Admitted:
    """Its INVITE as it is passed on. Whom it goes to the application has said, so the caller's Routes are left behind."""
    invite = call.invite
    if invite is None:
        raise AssertionError("the INVITE is kept as long as it has no answer")
    headers = invite.headers.copy()
    headers.remove("Route")
    return Admitted(Request(invite.method, invite.uri, headers, invite.body), passage.loop, None)


def _copy(holdings: Holdings, call: Call, number: int) -> Request:
    """The same bytes whoever makes it."""
    passage, target = _target_of(call, number)
    copy = passage.copies[number]
    if copy.flow is None:
        raise AssertionError("a copy has a way")
    return proxy.forward(
        _admitted(call, passage),
        target,
        branch=_branch(holdings, call, passage.serial, passage.loop, number),
        came_by=interface(holdings, call.way),
        leaves_by=Interface.of(copy.flow.transport, copy.sent_by or holdings.settings.listener_of(copy.flow).sent_by),
        record_route=passage.record_route,
        mark=holdings.names.mark(call.sip_call_id),
        breadth=passage.share,
    )


def _remember(holdings: Holdings, leg: Leg, number: int, request: Request, flow: Flow) -> None:
    proxied = Proxied(_passage(leg.call).serial, number, leg.call.way)
    holdings.ours[client_key(request)] = OurRequest(leg.call.id, request, flow, proxied=proxied)


def _branch(holdings: Holdings, call: Call, serial: int, loop: str, number: int) -> str:
    return holdings.names.branch_of(call.tag, f"{_STATEFUL}{serial}.{number}.{loop}")


def _key(holdings: Holdings, call: Call, serial: int, loop: str, number: int) -> TransactionKey:
    return TransactionKey(_branch(holdings, call, serial, loop, number), "", "INVITE")


def interface(holdings: Holdings, flow: Flow) -> Interface:
    """The listener of ours that a flow goes by, as its peers name it."""
    return Interface.of(flow.transport, holdings.settings.listener_of(flow).sent_by)


def _back(via: Via, flow: Flow) -> Flow:
    """Where a response goes whose request has come by `flow` (§18.2.2, RFC 3581 §4)."""
    port = via.port or default_port(flow.transport)
    if port == flow.port or flow.reliable or via.param("rport") is not None:
        return flow
    return flow._replace(port=port)


def _flow_of(holdings: Holdings, via: Via) -> Flow | None:
    """The same by what the Via says alone: we, or a node that shares our address, have written into it whence it came."""
    transport, host = via.transport.lower(), (via.param("received") or via.host).strip("[]")
    try:
        ip_address(host)
    except ValueError:
        return None
    rport = via.param("rport") or ""
    port = int(rport) if rport.isascii() and rport.isdigit() and len(rport) < 6 else via.port or default_port(transport)
    listener = listener_for(holdings, transport, host)
    return None if listener is None or not 0 < port < 65536 else Flow(transport, listener.name, host, port)
