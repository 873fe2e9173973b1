"""The far end changes the session by a re-INVITE (§14.2) or an UPDATE (RFC 3311 §5.2): hold, resume, a new address, other
codecs, or only a sign of life. Answered without asking the application, which is told afterwards.
"""

from __future__ import annotations

from bridge.calls import session_timing
from bridge.calls.answering import answer_in, answer_to, offer_in, offerable, warning_of
from bridge.calls.call import Call, Phase
from bridge.calls.effects import Accept, Respond, Tell
from bridge.calls.ending import hang_up
from bridge.calls.events import CallHeld, CallResumed, CallUpdated
from bridge.calls.peering import PeerMedia
from bridge.sdp.description import MalformedSdp, SessionDescription
from bridge.sdp.media_lines import Unacceptable
from bridge.sdp.offer_answer import Negotiated, offer
from bridge.sip.headers import Line
from bridge.sip.message import Request
from bridge.sip.transaction import TransactionKey
from bridge.sip.user_agent import respond

_LATER = ("Retry-After", "5")  # §14.2 wants 0 to 10 s


def reinvited(call: Call, key: TransactionKey, request: Request, *, now: float) -> None:
    """Answer a re-INVITE. Where it cannot be met the session stays as it was (§14.2)."""
    if call.phase is not Phase.ANSWERED or call.dialog is None or call.local_sdp is None:
        _refuse(call, key, request, 491)
        return
    offered = offer_in(request)
    if offered is None:
        call.sdp_version += 1
        _accept(call, key, request, offer(call.local_end(), codecs=offerable(call)).encode(), now=now)
        return
    taken = _meet(call, key, request, offered)
    if taken is not None:
        description, agreed = taken
        _accept(call, key, request, description, now=now)
        _agree(call, agreed)


def updated(call: Call, key: TransactionKey, request: Request, *, now: float) -> None:
    """Answer an UPDATE. Before there is an answer only one without an offer is in order: theirs has no reply yet (RFC 3311
    §5.1). Its 2xx waits for the store, for whoever carries the call on must know the new target."""
    if call.dialog is None:
        return
    offered = offer_in(request)
    if offered is None:
        _confirm(call, key, request, None, now=now)
        return
    if call.phase is not Phase.ANSWERED or call.local_sdp is None:
        ours_is_open = call.phase is Phase.ACCEPTED and call.negotiated is None
        _refuse(call, key, request, 491 if ours_is_open else 500, None, *(() if ours_is_open else (_LATER,)))
        return
    taken = _meet(call, key, request, offered)
    if taken is not None:
        description, agreed = taken
        call.local_sdp = description
        _confirm(call, key, request, description, now=now)
        _agree(call, agreed)


def _meet(
    call: Call, key: TransactionKey, request: Request, offered: SessionDescription | MalformedSdp
) -> tuple[bytes, Negotiated] | None:
    """Our answer to an offer, and what it agrees on; None: the request has been refused."""
    if isinstance(offered, MalformedSdp):
        _refuse(call, key, request, 400, f"Bad SDP: {offered.reason}")
        return None
    taken = answer_to(call, offered)
    if isinstance(taken, Unacceptable):
        _refuse(call, key, request, 488, None, warning_of(taken))
        return None
    description = taken.description.encode()
    if description != call.local_sdp:
        # A changed description is a new version of the session (RFC 3264 §8); the same one keeps its number.
        call.sdp_version += 1
        origin = taken.description.origin._replace(version=str(call.sdp_version))
        description = taken.description._replace(origin=origin).encode()
    return description, taken.negotiated


def reinvite_acknowledged(call: Call, sequence: int, ack: Request, *, now: float) -> None:
    """The ACK of our 2xx to a re-INVITE: where that 2xx made the offer, this brings the answer."""
    request = call.reinvite
    if request is None or request.cseq.number != sequence:
        return
    call.reinvite = None
    if call.is_over or offer_in(request) is not None:
        return
    agreed = answer_in(call, ack)
    if agreed is not None:
        _agree(call, agreed)
    else:
        # The far end asked for our offer and does not answer it: nobody knows any more what is being sent where.
        hang_up(call, "policy", "not_acceptable", now=now)


def _refuse(
    call: Call, key: TransactionKey, request: Request, status: int, reason: str | None = None, *headers: Line
) -> None:
    server = ("Server", call.identity.server)
    call.out.append(Respond(key, respond(request, status, reason, headers=(server, *headers)), gated=False))


def _accept(call: Call, key: TransactionKey, request: Request, description: bytes, *, now: float) -> None:
    if call.dialog is None:
        raise AssertionError("a re-INVITE comes within a dialog")
    call.dialog.refresh_target(request)
    call.local_sdp = description
    call.reinvite, call.reinvite_key = request, key
    session_timing.offered(call, request, now=now)
    session_timing.arm(call, now=now)
    response = respond(
        request,
        200,
        contact=call.identity.contact,
        headers=(
            ("Server", call.identity.server),
            ("Allow", call.identity.allow),
            *session_timing.said(call.session, request),
            ("Content-Type", "application/sdp"),
        ),
        body=description,
    )
    call.out.append(Accept(key, response))


def _confirm(call: Call, key: TransactionKey, request: Request, description: bytes | None, *, now: float) -> None:
    """The 2xx to an UPDATE."""
    if call.dialog is None:
        raise AssertionError("an UPDATE comes within a dialog")
    call.dialog.refresh_target(request)
    timing: list[Line] = []
    if call.phase in (Phase.ACCEPTED, Phase.ANSWERED):
        session_timing.offered(call, request, now=now)
        session_timing.arm(call, now=now)
        timing = session_timing.said(call.session, request)
    content = () if description is None else (("Content-Type", "application/sdp"),)
    headers = (("Server", call.identity.server), ("Allow", call.identity.allow), *timing, *content)
    response = respond(request, 200, contact=call.identity.contact, headers=headers, body=description or b"")
    call.out.append(Respond(key, response, gated=True))


def tell_joined(call: Call, agreed: Negotiated) -> None:
    """Whom it is joined with answers the next offer in what is spoken now."""
    if call.link is not None and call.link.joined:
        call.out.append(Tell(call.link.peer, PeerMedia(agreed)))


def _agree(call: Call, agreed: Negotiated) -> None:
    """Take over what was agreed on; tell it only if it is something new."""
    before, was_held = call.negotiated, call.held
    if agreed == before:
        return
    call.negotiated, call.held = agreed, agreed.held
    call.media_generation += 1
    call.set_media()
    tell_joined(call, agreed)
    if agreed.held and not was_held:
        call.emit(CallHeld())
    elif was_held and not agreed.held:
        call.emit(CallResumed())
    else:
        call.emit(CallUpdated())
