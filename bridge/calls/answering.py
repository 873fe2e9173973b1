"""From an INVITE to its ACK, seen by the one who is called (§13.3): a call is made, its application answers it, the 2xx
waits for its ACK. Offer and answer as RFC 3264 wants them, the delayed offer included (the 200 offers, the ACK answers).
"""

from __future__ import annotations

from functools import lru_cache

from bridge.calls import session_timing
from bridge.calls.actions import Answer
from bridge.calls.call import Call, Identity, Phase, Plan
from bridge.calls.effects import Accept, ArmTimer, CallTimer, CloseMedia, DisarmTimer, Meet, ReplaceDialog, Respond
from bridge.calls.ending import end, hang_up, refuse
from bridge.calls.events import CallAnswered, CallIncoming
from bridge.calls.facts import ActionId, CallId, ConversationId, Ended, Party
from bridge.calls.inputs import Pracked
from bridge.sdp.codecs import DEFAULT, Codec
from bridge.sdp.description import MalformedSdp, SessionDescription, parse
from bridge.sdp.media_lines import Direction, Unacceptable
from bridge.sdp.offer_answer import Answered, Negotiated, answer, offer, offered_codecs, read_answer
from bridge.sdp.relaying import answer_as
from bridge.sdp.video import offers_video
from bridge.sip import reliable
from bridge.sip.dialog import Dialog
from bridge.sip.flow import Flow
from bridge.sip.headers import NameAddr, content_type
from bridge.sip.message import Request, Response
from bridge.sip.reliable import RELIABLE, Provisionals, Said, rack_of
from bridge.sip.uri import SipUri, TelUri, parse_uri
from bridge.sip.user_agent import asks_for_sips, respond

# Headers worth an application's attention beside every X- header. Bounded, because they come from strangers.
_SHOWN = frozenset(
    {
        "alert-info",
        "call-info",
        "diversion",
        "history-info",
        "p-asserted-identity",
        "p-called-party-id",
        "p-preferred-identity",
        "priority",
        "privacy",
        "referred-by",
        "remote-party-id",
        "session-id",
        "subject",
        "user-to-user",
    }
)
_SHOWN_MOST = 32
_SHOWN_LENGTH = 1024


def invited(
    *,
    id: CallId,  # noqa: A002 -- the public name of the field
    conversation_id: ConversationId,
    plan: Plan,
    identity: Identity,
    tag: str,
    invite: Request,
    flow: Flow,
    now: float,
) -> Call | MalformedSdp:
    """The call that an INVITE makes. An offer that cannot be read is the caller's fault: 400 with its reason."""
    offered = offer_in(invite)
    if isinstance(offered, MalformedSdp):
        return offered
    call = Call(
        id=id,
        conversation_id=conversation_id,
        plan=plan,
        identity=identity.secured() if asks_for_sips(invite) else identity,
        created_at=now,
        flow=flow,
        tag=tag,
        invite=invite,
        from_=party_of(invite.from_),
        to=party_of(invite.to),
        user_agent=invite.headers.get("user-agent"),
        headers=shown_headers(invite),
        offer=offered,
    )
    asked = reliable.wanted(invite) if "Require" in invite.headers or plan.reliable_if_supported else None
    if asked == "required" or (asked == "supported" and plan.reliable_if_supported and offered is not None):
        call.provisionals = Provisionals.begun(tag)
    return call


def announce(call: Call) -> None:
    """Its first event, and the limit of how long it may stay unanswered."""
    invite = _invite(call)
    codecs = offered_codecs(call.offer) if call.offer is not None else ()
    call.emit(
        CallIncoming(
            method=invite.method, uri=invite.uri, headers=call.headers, codecs=codecs, replaces_call_id=call.replaces
        )
    )
    call.out.append(ArmTimer(CallTimer.RING_LIMIT, call.plan.ring_limit_s))


def ring(call: Call) -> None:
    """180, at once: it promises nothing that would have to be stored first, unless it has to arrive for certain."""
    call.ringing = True
    _say(call, Said(180, has_sdp=False))


def _say(call: Call, said: Said) -> None:
    """A provisional response. One that has to arrive for certain waits for the PRACK of the one before it, and for the store; and
    where the caller wants our offer, it would have to bring that (RFC 3262 §5), so such a caller gets its 200 only."""
    provisionals = call.provisionals
    if call.invite_key is None or (provisionals is not None and call.offer is None):
        return
    if provisionals is None or provisionals.say(said):
        gated = said.has_sdp or provisionals is not None
        call.out.append(Respond(call.invite_key, provisional_response(call, said), gated=gated))


def provisional_response(call: Call, said: Said) -> Response:
    """The same again whoever makes it."""
    lines = [("Server", call.identity.server)]
    if call.provisionals is not None:
        lines += [("Allow", call.identity.allow), ("Require", RELIABLE), ("RSeq", str(call.provisionals.rseq))]
    if said.has_sdp:
        lines.append(("Content-Type", "application/sdp"))
    return respond(
        _invite(call),
        said.status,
        to_tag=call.tag,
        contact=call.identity.contact,
        headers=lines,
        body=(call.local_sdp or b"") if said.has_sdp else b"",
    )


def acknowledged_provisional(call: Call, given: Pracked, *, now: float) -> None:
    """A PRACK: what has waited for it goes on, once whoever carries the call on would know that too."""
    provisionals, invite = call.provisionals, call.invite
    if (
        provisionals is None
        or invite is None
        or call.accept_sent
        or not provisionals.acknowledge(rack_of(given.request), invite.cseq.number)
    ):
        call.out.append(Respond(given.key, respond(given.request, 481, headers=_server(call)), gated=False))
        return
    if given.request.body:  # a new offer, before the call is answered: it may ask again then
        call.out.append(Respond(given.key, respond(given.request, 488, headers=_server(call)), gated=True))
    else:
        call.out.append(Respond(given.key, respond(given.request, 200, headers=_server(call)), gated=True))
    waiting = provisionals.next()
    if waiting is not None:
        _say(call, waiting)
    if call.phase is Phase.ANSWERING and call.has_ports:
        _accept(call, now=now)


def unacknowledged_provisional(call: Call, *, now: float) -> None:
    """64·T1 without a PRACK: the caller hears nothing of us (RFC 3262 §3)."""
    if call.is_over or call.accept_sent or call.provisionals is None or call.provisionals.pending is None:
        return
    refuse(call, 504, "network", "ack_timeout", now=now)


def _server(call: Call) -> tuple[tuple[str, str], ...]:
    return (("Server", call.identity.server),)


def begin_answer(call: Call, action: Answer, action_id: ActionId | None, *, now: float) -> None:
    """Ports first, where there are none yet: our SDP names them."""
    call.phase = Phase.ANSWERING
    call.answer_action = action_id
    call.answer_headers = action.headers
    if call.media_open:
        _accept(call, now=now)
    else:
        call.open_media(video=may_have_video(call))


def may_have_video(call: Call) -> bool:
    """Whether the far end offers a picture, and the linked call takes one."""
    return call.offer is not None and offers_video(call.offer) and bool(call.peer_media and call.peer_media.video)


def media_opened(call: Call, address: str, port: int, *, video: bool, now: float) -> None:
    """Ports are there. With all of them the call agrees on its media and accepts, unless it has ended in the meantime."""
    if video:
        call.video_port = port
    else:
        call.media_open = True
        call.media_address, call.media_port = address, port
    if call.is_over:
        call.out.append(CloseMedia())
    elif call.has_ports:
        ports_there(call, now=now)


def ports_there(call: Call, *, now: float) -> None:
    """Whatever waited for ports goes on."""
    if call.phase is Phase.ANSWERING:
        _accept(call, now=now)
    elif call.phase is Phase.UNANSWERED and call.peer_media is not None:
        send_early_media(call)


def send_early_media(call: Call) -> None:
    """183 with our answer: the party that was dialed is heard before it answers. The 200 will say the same (§13.2.1)."""
    if call.offer is None or call.invite_key is None or call.local_sdp is not None or _answer_offer(call) is not None:
        return  # it has been said already, or will be refused when it comes to an answer
    _say(call, Said(183, has_sdp=True))


def no_media(call: Call, *, now: float) -> None:
    """Every port is taken: the whole service is full (contract §6)."""
    if call.phase is Phase.ANSWERING:
        refuse(call, 503, "policy", "overload", now=now, headers=(("Retry-After", "10"),), caused_by=call.answer_action)


def _accept(call: Call, *, now: float) -> None:
    invite, provisionals = _invite(call), call.provisionals
    if provisionals is not None and any(each.has_sdp for each in (provisionals.pending, *provisionals.waiting) if each):
        return  # RFC 3262 §3: not before the caller has acknowledged our SDP
    if call.offer is None:
        call.sdp_version = 1
        call.local_sdp = offer(call.local_end(), codecs=offerable(call)).encode()
    elif call.local_sdp is None:  # else a 183 has said it already
        refusal = _answer_offer(call)
        if refusal is not None:
            warning = warning_of(refusal)
            refuse(call, 488, "policy", "not_acceptable", now=now, headers=(warning,), caused_by=call.answer_action)
            return
    early_dialog(call)
    call.phase = Phase.ACCEPTED
    session_timing.offered(call, invite, now=now)
    call.out.append(Accept(call.invite_key, accepted_response(call)))


def early_dialog(call: Call) -> Dialog:
    """The dialog that its INVITE has made (§12.1.1), kept from the first request within it on."""
    if call.dialog is None:
        call.dialog = Dialog.as_server(_invite(call), call.tag, call.way)
    return call.dialog


def _answer_offer(call: Call) -> Unacceptable | None:
    """Our answer to the offer of the INVITE, in the codec of the party that is to be heard, if there is one."""
    if call.offer is None:
        raise AssertionError("an answer needs an offer")
    call.sdp_version = 1
    taken = answer_to(call, call.offer)
    if isinstance(taken, Unacceptable):
        return taken
    call.local_sdp, call.negotiated = taken.description.encode(), taken.negotiated
    call.held = taken.negotiated.held
    call.set_media()
    return None


def answer_to(call: Call, offered: SessionDescription) -> Answered | Unacceptable:
    """What we say to an offer of the far end (RFC 3264 §6).

    A call that is linked answers in the codec of the other one, because nobody here translates; where that is not
    offered, or there is no other, in one that we know ourselves.
    """
    direction: Direction = "sendonly" if call.on_hold else "sendrecv"
    if call.peer_media is not None:
        taken = answer_as(offered, call.local_end(), call.peer_media, direction=direction)
        if isinstance(taken, Answered) or call.is_joined:
            return taken
    return answer(offered, call.local_end(), codecs=offerable(call), direction=direction)


def offerable(call: Call) -> tuple[Codec, ...]:
    """The codecs that this call may speak: those of its plan, and the one that it was relayed in before."""
    ours = our_codecs(call.plan)
    agreed = call.peer_media or call.negotiated
    if agreed is None or agreed.codec.encoding in {codec.encoding for codec in ours}:
        return ours
    return (*agreed.incoming, *[codec for codec in ours if not codec.is_event])


def accepted_response(call: Call) -> Response:
    """The 200 to the INVITE, the same again whoever makes it: an heir repeats it to the byte (survival §4.4)."""
    if call.local_sdp is None:
        raise AssertionError("accepting needs an SDP")
    extra = [(name, value) for name, values in call.answer_headers.items() for value in values]
    return respond(
        _invite(call),
        200,
        to_tag=call.tag,
        contact=call.identity.contact,
        headers=(
            ("Server", call.identity.server),
            ("Allow", call.identity.allow),
            *session_timing.said(call.session, _invite(call)),
            *extra,
            ("Content-Type", "application/sdp"),
        ),
        body=call.local_sdp,
    )


def acknowledged(call: Call, ack: Request, *, now: float) -> None:
    """The ACK of our 2xx to the INVITE: from here the call counts as answered."""
    if call.phase is not Phase.ACCEPTED:
        return
    if call.negotiated is None and not _take_answer(call, ack):
        call.phase = Phase.ANSWERED
        hang_up(call, "policy", "not_acceptable", now=now, caused_by=call.answer_action)
        return
    call.phase = Phase.ANSWERED
    call.answered_at = now
    call.emit(CallAnswered(ring_s=now - call.created_at), caused_by=call.answer_action)
    call.done(Answer)
    replaces = call.invite.headers.get("Replaces") if call.invite is not None else None
    if replaces is not None and call.link is None and call.hangup_wanted is None:
        call.out.append(ReplaceDialog(replaces, call.new_action_id()))
    call.invite = call.offer = call.answer_action = call.invite_key = None
    call.answer_headers = {}
    call.out.append(DisarmTimer(CallTimer.RING_LIMIT))
    call.out.append(ArmTimer(CallTimer.DURATION_LIMIT, call.duration_limit_s))
    session_timing.arm(call, now=now)
    if call.link is not None:
        call.out.append(Meet())
    wanted = call.hangup_wanted
    if wanted is not None:
        hang_up(call, wanted.ended_by, wanted.reason, now=now, headers=wanted.headers, caused_by=wanted.caused_by)


def unacknowledged(call: Call, *, now: float) -> None:
    """64·T1 without an ACK: the dialog is confirmed all the same, and ends by BYE (§13.3.1.4)."""
    if call.is_over:
        return
    call.phase = Phase.ANSWERED
    wanted = call.hangup_wanted
    cause = wanted.caused_by if wanted is not None else None
    hang_up(call, "network", "ack_timeout", now=now, caused_by=cause or call.answer_action)


def canceled(call: Call, reason: str, *, q850: int | None, now: float) -> None:
    """The caller gave up before our 2xx left (§9.2). 487 leaves at once: nothing more depends on this call."""
    if call.is_over or call.accept_sent:
        return
    if call.invite is not None and call.invite_key is not None:
        response = respond(call.invite, 487, to_tag=call.tag, headers=(("Server", call.identity.server),))
        call.out.append(Respond(call.invite_key, response, gated=False))
    end(call, Ended("remote", reason, sip_code=487, sip_reason="Request Terminated", q850=q850), now=now)


def offer_in(request: Request) -> SessionDescription | MalformedSdp | None:
    """The offer of an INVITE or re-INVITE; None: it asks for ours. A body of another type is not meant for us."""
    if not request.body or content_type(request) != "application/sdp":
        return None
    return parse(request.body)


def answer_in(call: Call, ack: Request) -> Negotiated | None:
    """What the answer to our last offer agrees on, which the ACK carries (§13.2.1); None: nothing we can live with."""
    ours = parse(call.local_sdp) if call.local_sdp is not None else None
    theirs = parse(ack.body) if ack.body else None
    if not isinstance(ours, SessionDescription) or not isinstance(theirs, SessionDescription):
        return None
    agreed = read_answer(ours, theirs)
    return agreed if isinstance(agreed, Negotiated) else None


def _take_answer(call: Call, ack: Request) -> bool:
    agreed = answer_in(call, ack)
    if agreed is None:
        return False
    call.negotiated = agreed
    call.held = agreed.held
    call.media_generation += 1
    call.set_media()
    return True


def our_codecs(plan: Plan) -> tuple[Codec, ...]:
    """The codecs of this plan, in its order, and the telephone events that go with any of them."""
    return _codecs(plan.codecs)


@lru_cache(maxsize=64)  # a service has few plans
def _codecs(names: tuple[str, ...]) -> tuple[Codec, ...]:
    known = {codec.name: codec for codec in DEFAULT}
    return (*(known[name] for name in names if name in known), known["telephone-event"])


def warning_of(refusal: Unacceptable) -> tuple[str, str]:
    """The Warning header of a 488 (§20.43). The agent is a pseudonym: it names no host of ours."""
    return "Warning", f'{refusal.warning_code} bridge "{refusal.warning_text}"'


def party_of(address: NameAddr) -> Party:
    """From or To as the contract shows it."""
    uri = parse_uri(address.uri)
    if isinstance(uri, SipUri):
        return Party(address.uri, uri.user, uri.host, address.display_name)
    if isinstance(uri, TelUri):
        return Party(address.uri, uri.number, None, address.display_name)
    return Party(address.uri, None, None, address.display_name)


def shown_headers(request: Request) -> dict[str, tuple[str, ...]]:
    """The headers an application may want to see, at most 32 of them and 1,024 characters each."""
    shown: dict[str, tuple[str, ...]] = {}
    for name, value in request.headers:
        key = name.lower()
        if (key in _SHOWN or key.startswith("x-")) and len(shown) < _SHOWN_MOST:
            shown[name] = (*shown.get(name, ()), value[:_SHOWN_LENGTH])[:_SHOWN_MOST]
    return shown


def _invite(call: Call) -> Request:
    if call.invite is None:
        raise AssertionError("the INVITE is kept until its ACK")
    return call.invite
