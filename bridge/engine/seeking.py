"""Requests of ours that begin or change a session: where they go, and what they say (§8.1, §13.2.1, §18.1.1).

Makes the INVITE of an attempt from what is stored of it, so that whoever sends it again after a crash sends the same bytes;
its re-INVITE, its CANCEL and its ACK. What comes back stands in `responses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from bridge.calls import session_timing
from bridge.calls.actions import Credentials
from bridge.calls.call import Call
from bridge.calls.effects import CallTimer
from bridge.calls.facts import CallId
from bridge.calls.inputs import AckSent
from bridge.calls.search import InviteAttempt
from bridge.engine.effects import Noted
from bridge.engine.holdings import Holdings, Leg, OurRequest
from bridge.engine.routing import next_hop
from bridge.engine.settings import Listener
from bridge.sip.dialog import Dialog
from bridge.sip.endpoint import Outcome, far_end
from bridge.sip.flow import Flow, Send
from bridge.sip.headers import Line
from bridge.sip.invite_usage import AckSent as UsageAckSent
from bridge.sip.invite_usage import InviteSent, UsageState
from bridge.sip.locating import Hop
from bridge.sip.message import Request
from bridge.sip.reliable import RELIABLE
from bridge.sip.session_timer import TIMER
from bridge.sip.transaction import State, TransactionKey, client_key
from bridge.sip.uri import is_sips
from bridge.sip.user_agent import Capabilities, new_invite, via_value

_EXTENSIONS = frozenset({TIMER, RELIABLE})  # what our INVITEs support
_TARGETS = frozenset({"INVITE", "UPDATE", "REFER"})  # what tells the far end where we are (§12.2.1.1, RFC 3515 §2.2)
_OVERTAKEN_S = 1.0  # for their re-INVITE to be over, before ours
PATIENCE_T1 = 8  # times T1, for a server while others remain: four copies of an INVITE by UDP
UDP_MOST = 1300  # bytes of a request; above that, and without knowledge of the path, it leaves by TCP (§18.1.1)


def listener_for(holdings: Holdings, transport: str, host: str) -> Listener | None:
    """A listener of ours that speaks this transport, and the IP version of this address."""
    version = 6 if ":" in host else 4
    for listener in holdings.settings.listeners.values():
        if listener.transport == transport and listener.version == version:
            return listener
    return None


def flow_towards(holdings: Holdings, hop: Hop, host: str) -> Flow | None:
    """The way there, if a listener of ours can send there."""
    listener = listener_for(holdings, hop.transport, hop.host)
    if listener is None:
        return None
    flow = Flow(hop.transport, listener.name, hop.host, hop.port)
    return flow._replace(name=far_end(host, hop.host)) if flow.secure else flow


def sign(holdings: Holdings, call: Call, number: int) -> None:
    """Write down what the Via of an attempt's INVITE will say: whoever carries the call on has to repeat it."""
    attempt = attempt_of(call, number)
    attempt.sent_by = _sender_of(holdings, attempt)


def reaches_us(holdings: Holdings, attempt: InviteAttempt) -> bool:
    """Whether the answers to this attempt's INVITE come to us, although another node has sent it: all nodes have one
    address. Those to one that went by a connection came by that, and it is gone."""
    flow = _way(holdings, attempt)
    if flow is None or flow.transport != "udp":
        return False
    return attempt.sent_by == _sender_of(holdings, attempt)


def can_cancel(holdings: Holdings, attempt: InviteAttempt) -> bool:
    """Whether we can send a CANCEL for an INVITE of another node's: its Via is known, and we speak that transport."""
    flow = _way(holdings, attempt)
    return bool(attempt.sent_by) and flow is not None and listener_for(holdings, flow.transport, flow.host) is not None


def send_invite(holdings: Holdings, leg: Leg, number: int, sequence: int, *, now: float) -> list[Outcome]:
    """An attempt's INVITE leaves. Nothing happens where it is not wanted any more, or a newer one has taken its place."""
    attempt = attempt_of(leg.call, number)
    if attempt.sequence != sequence:
        return []
    if not attempt.is_out:
        attempt.given_up_at = 0.0  # it has never left
        return []
    flow = _way(holdings, attempt)
    if flow is None:
        return []
    sign(holdings, leg.call, number)
    request = _invite(holdings, leg, attempt, flow)
    if flow.transport == "udp" and not attempt.datagram_only and len(request.encode()) > UDP_MOST:
        by_tcp = _by_tcp(holdings, flow)
        if by_tcp is not None:
            attempt.reliable = True
            sign(holdings, leg.call, number)
            flow, request = by_tcp, _invite(holdings, leg, attempt, by_tcp)
    ours = OurRequest(leg.call.id, request, flow, number, attempt.target.auth, attempt.challenges)
    holdings.endpoint.abandon(client_key(request))  # from when the call was here before, and gave it up without a write
    if attempt.way:
        holdings.out.append(Noted("info", "next_server", leg.call.id, (("flow", str(flow)), ("way", attempt.way))))
    # While there is somebody else to ask, silence counts for sooner: who rings has 64·T1 only for the last one.
    others = attempt.place is not None and bool(attempt.place.further)
    return send(holdings, ours, now=now, patience_s=PATIENCE_T1 * holdings.settings.timers.t1 if others else None)


def take_up_invite(holdings: Holdings, leg: Leg, number: int) -> None:
    """Go on with an attempt's INVITE that a dead process has sent, without sending it again. One that was given up here before
    its call went to another node and came back is going on already."""
    attempt = attempt_of(leg.call, number)
    flow = _way(holdings, attempt)
    if flow is None:
        return
    request = _invite(holdings, leg, attempt, flow)
    ours = OurRequest(leg.call.id, request, flow, number, attempt.target.auth, attempt.challenges)
    key = client_key(request)
    holdings.ours[key] = ours
    if holdings.endpoint.state(key) is None:
        holdings.endpoint.take_up(request, flow)


def forget_last_words(holdings: Holdings, call: Call) -> None:
    """Wait for no final response that cannot come to us, or has come while the call was another node's."""
    for attempt in call.search.attempts if call.search is not None else ():
        key = TransactionKey(_invite_branch(holdings, call, attempt, attempt.sequence), "", "INVITE")
        if holdings.endpoint.state(key) not in (State.CALLING, State.PROCEEDING):
            attempt.given_up_at = 0.0


def send(
    holdings: Holdings,
    ours: OurRequest,
    *,
    now: float,
    otherwise: Flow | None = None,
    patience_s: float | None = None,
) -> list[Outcome]:
    """A request in a transaction of its own, whose responses the call waits for. `otherwise`: the way it goes once its
    connection is lost; `patience_s`: an INVITE waits no longer for a first response."""
    holdings.ours[client_key(ours.request)] = ours
    return holdings.endpoint.request(ours.request, ours.flow, now=now, otherwise=otherwise, patience_s=patience_s)


def cancel(
    holdings: Holdings, leg: Leg, number: int, sequence: int, reason: str | None, *, now: float
) -> list[Outcome]:
    """CANCEL an attempt's INVITE, as soon as that is allowed (§9.1). One that waits for the store never leaves."""
    key = TransactionKey(_invite_branch(holdings, leg.call, attempt_of(leg.call, number), sequence), "", "INVITE")
    return holdings.endpoint.cancel(key, headers=() if reason is None else (("Reason", reason),), now=now)


def abandon(holdings: Holdings, call: Call) -> None:
    """Forget the INVITEs that are out, without a word to anybody: they are another node's affair."""
    for attempt in call.search.attempts if call.search is not None else ():
        if attempt.is_out:
            key = TransactionKey(_invite_branch(holdings, call, attempt, attempt.sequence), "", "INVITE")
            holdings.endpoint.abandon(key)
            holdings.ours.pop(key, None)


def send_reinvite(
    holdings: Holdings, leg: Leg, *, proof: tuple[Line, ...] = (), challenges: int = 0, now: float
) -> list[Outcome]:
    """The re-INVITE that the call keeps leaves, unless the far end's own, or the end of the call, has come before it."""
    call = leg.call
    under_way = call.reoffer
    if under_way is None or under_way.sent or call.is_over or call.dialog is None:
        return []
    if leg.usage.state is not UsageState.IDLE or call.local_sdp != under_way.offered:
        # Theirs is pending, or has changed what ours would change: as after a glare, ours is made anew, and tried again.
        holdings.agenda.arm((call.id, CallTimer.GLARE), now + _OVERTAKEN_S)
        return []
    under_way.sent, leg.proof = True, proof
    lines = (
        ("Allow", call.identity.allow),
        *session_timing.asked_again(call),
        ("User-Agent", call.identity.server),
        *proof,
        ("Content-Type", "application/sdp"),
    )
    request, flow = within_dialog(holdings, leg, "INVITE", lines, under_way.offered)
    leg.usage.step(InviteSent(request.cseq.number))
    ours = OurRequest(call.id, request, flow, credentials=credentials_of(call), challenges=challenges)
    return send(holdings, ours, now=now)


def send_update(
    holdings: Holdings, leg: Leg, *, proof: tuple[Line, ...] = (), challenges: int = 0, now: float
) -> list[Outcome]:
    """An UPDATE that refreshes the session leaves (RFC 4028 §7.4, RFC 3311 §5.1): it offers nothing."""
    call = leg.call
    if call.is_over or call.dialog is None:
        return []
    lines = (
        ("Allow", call.identity.allow),
        *session_timing.asked_again(call),
        ("User-Agent", call.identity.server),
        *proof,
    )
    request, flow = within_dialog(holdings, leg, "UPDATE", lines)
    ours = OurRequest(call.id, request, flow, credentials=credentials_of(call), challenges=challenges)
    return send(holdings, ours, now=now)


def acknowledge(holdings: Holdings, leg: Leg, sequence: int) -> None:
    """The ACK of a 2xx leaves, and is kept for the 2xx's repetitions (§13.2.2.4)."""
    call = leg.call
    if call.dialog is None:
        return
    send_ack = ack(holdings, call.id, call.dialog, sequence, proof_of(leg, sequence))
    leg.usage.step(UsageAckSent(sequence, send_ack))
    holdings.out.append(send_ack)
    holdings.errands.append((call.id, AckSent()))


def proof_of(leg: Leg, sequence: int) -> tuple[Line, ...]:
    """The credentials of the INVITE with this CSeq number, which its ACK has to repeat (§13.2.2.4)."""
    attempt = leg.call.search.answered() if leg.call.search is not None else None
    return attempt.proof if attempt is not None and attempt.sequence == sequence else leg.proof


def ack(holdings: Holdings, call: CallId, dialog: Dialog, sequence: int, proof: Sequence[Line] = ()) -> Send:
    """An ACK in a dialog of this call; its branch is its own, and the same for each copy."""
    flow = next_hop(dialog, via_host=dialog.flow.host)
    branch = holdings.names.branch(call, f"a{sequence}.{crc32(dialog.remote_tag.encode()):08x}")
    via = via_value(flow.transport, holdings.settings.listener_of(flow).sent_by, branch)
    return Send(flow, dialog.ack_for(sequence, via=via, headers=proof).encode())


def within_dialog(
    holdings: Holdings, leg: Leg, method: str, lines: tuple[tuple[str, str], ...], body: bytes = b""
) -> tuple[Request, Flow]:
    """A request within the call's dialog, and its way."""
    call = leg.call
    if call.dialog is None:
        raise AssertionError(f"{method} needs a dialog")
    # A call takes its numbers along when it changes its conversation; after a store has fallen back the epoch keeps apart
    # what two owners call by one number.
    branch = holdings.names.branch(call.id, f"{leg.holding.epoch}.{call.dialog.local_sequence + 1}")
    flow = next_hop(call.dialog, via_host=call.via_host)
    listener = holdings.settings.listener_of(flow)
    via = via_value(flow.transport, listener.sent_by, branch)
    contact = listener.named(secure=call.dialog.secure).contact if method in _TARGETS else None
    return call.dialog.new_request(method, via=via, contact=contact, headers=lines, body=body), flow


def repeated(holdings: Holdings, ours: OurRequest, dialog: Dialog, proof: tuple[Line, ...]) -> tuple[Request, Flow]:
    """A request within a dialog once more, with what it was asked for. Its call may be gone already."""
    branch = holdings.names.branch(ours.call, f"p{dialog.local_sequence}")
    listener = holdings.settings.listener_of(ours.flow)
    kept = [line for line in ours.request.headers if line[0] in ("Reason", "User-Agent")]
    via = via_value(ours.flow.transport, listener.sent_by, branch)
    return dialog.new_request(ours.request.method, via=via, headers=(*kept, *proof)), ours.flow


def attempt_of(call: Call, number: int) -> InviteAttempt:
    attempt = call.search.attempt(number) if call.search is not None else None
    if attempt is None:
        raise AssertionError(f"no attempt {number} of {call.id}")
    return attempt


def credentials_of(call: Call) -> Credentials | None:
    """What the target that answered was given to ask for."""
    attempt = call.search.answered() if call.search is not None else None
    return None if attempt is None else attempt.target.auth


def _invite(holdings: Holdings, leg: Leg, attempt: InviteAttempt, flow: Flow) -> Request:
    call, place = leg.call, attempt.place
    if call.search is None or place is None:
        raise AssertionError("an INVITE has a target")
    listener = holdings.settings.listener_of(flow)
    sent_by = attempt.sent_by or listener.sent_by
    branch = _invite_branch(holdings, call, attempt, attempt.sequence)
    extra = [(name, value) for name, values in attempt.target.headers.items() for value in values]
    return new_invite(
        place.uri,
        from_=f"{attempt.target.from_ or call.search.from_};tag={call.tag}",
        # A number has become a URI by its trunk, and is no address of anybody's before.
        to=f"<{place.uri if attempt.target.trunk else attempt.target.uri}>",
        call_id=attempt.sip_call_id,
        sequence=attempt.sequence,
        via=via_value(flow.transport, sent_by, branch),
        contact=listener.named(secure=is_sips(place.uri)).contact,
        offer=call.local_sdp or b"",
        capabilities=Capabilities(extensions=_EXTENSIONS, server=call.identity.server),
        headers=[
            *[("Route", route) for route in place.routes],
            *session_timing.asked_first(call),
            *attempt.proof,
            *extra,
        ],
        max_forwards=call.max_forwards,
    )


def _invite_branch(holdings: Holdings, call: Call, attempt: InviteAttempt, sequence: int) -> str:
    # What could not be brought by TCP is another transaction by UDP.
    again = "u" if attempt.datagram_only else ""
    # The same to another server is another transaction, and nothing else (RFC 3263 §4.3).
    elsewhere = f"w{attempt.way}" if attempt.way else ""
    return holdings.names.branch_of(call.tag, f"i{attempt.number}.{sequence}{elsewhere}{again}")


def _way(holdings: Holdings, attempt: InviteAttempt) -> Flow | None:
    """The way that its INVITE goes."""
    flow = None if attempt.place is None else attempt.place.flow
    return (_by_tcp(holdings, flow) or flow) if flow is not None and attempt.reliable else flow


def _sender_of(holdings: Holdings, attempt: InviteAttempt) -> str:
    """The sent-by of the listener that its INVITE leaves by."""
    flow = _way(holdings, attempt)
    return "" if flow is None else holdings.settings.listener_of(flow).sent_by


def _by_tcp(holdings: Holdings, flow: Flow) -> Flow | None:
    """The same peer by TCP; None where we do not listen there."""
    listener = listener_for(holdings, "tcp", flow.host)
    return None if listener is None else Flow("tcp", listener.name, flow.host, flow.port)
