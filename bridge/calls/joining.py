"""Who hears whom: two calls that are connected with each other, or are being connected for that.

Each of the two keeps a `Link` that names the other, and is told what becomes of it. Ringing, early media and the answer of
a party that was dialed pass through to the call that dialed it. Both are joined once both are answered and speak one
codec; `meet` says what is missing for that. Knows nothing of conversations as they are stored.
"""

from __future__ import annotations

from bridge.calls import answering, ending
from bridge.calls.actions import Answer, Dial, Join
from bridge.calls.call import Call, Link, Phase
from bridge.calls.effects import JoinWith, MoveOut, Seek, Tell
from bridge.calls.events import ActionFailed, CallJoined, CallLeft
from bridge.calls.facts import ActionId, CallId
from bridge.calls.inputs import CallInput, CodecWanted, Joined, JoinImpossible
from bridge.calls.peering import PeerFailed, PeerGone
from bridge.sdp.offer_answer import Negotiated
from bridge.sdp.relaying import can_relay


def dial(call: Call, action: Dial, action_id: ActionId, *, now: float) -> None:
    """Have the party sought: the node makes a call of it, and links the two."""
    call.dial_failure = None
    call.out.append(Seek(action_id, action))
    if action.answer_caller == "now" and call.phase is Phase.UNANSWERED:
        answering.begin_answer(call, Answer(), None, now=now)


def join(call: Call, action: Join, action_id: ActionId) -> None:
    """Have the other call brought into this conversation: `Linked` comes back, or `JoinRefused`."""
    call.out.append(JoinWith(CallId(action.call_id), action_id, action.end_with_peer))


def waiting(call: Call) -> JoinWith | None:
    """The join that has begun and whose other call has not been brought into this conversation yet."""
    current = call.list.current if call.list is not None else None
    if current is None or not isinstance(current.action, Join) or call.is_over:
        return None
    if call.link is not None and call.link.action_id == current.action_id:
        return None
    return JoinWith(CallId(current.action.call_id), current.action_id, current.action.end_with_peer)


def linked(call: Call, link: Link, agreed: Negotiated | None, *, now: float) -> None:
    """Another call is to be heard from now on; whichever was before is not. `agreed`: what that one speaks, if anything."""
    before = call.link
    part(call)
    if before is not None and _waits_for(call, before):
        call.cancel_action("join", before.action_id)  # another call's join has come before it
        call.done(Join)
    call.link = link
    if agreed is not None:
        call.peer_media = agreed
        _be_answered(call, now=now)


def part(call: Call, *, caused_by: ActionId | None = None) -> None:
    """Hear the other call no more, and let it know."""
    if call.link is not None:
        call.out.append(Tell(call.link.peer, PeerGone(ended=False)))
        unlink(call, caused_by=caused_by)


def leave(call: Call, *, caused_by: ActionId) -> None:
    """Back to a conversation of its own."""
    part(call, caused_by=caused_by)
    call.out.append(MoveOut())


# What the other call tells


def peer_ringing(call: Call) -> None:
    """The party rings, and so the caller hears that it does."""
    if call.is_unanswered and not call.ringing:
        answering.ring(call)


def peer_media(call: Call, agreed: Negotiated) -> None:
    """What the other call speaks: anew, or a party before its answer, whom the caller hears by a 183 with our answer
    (§13.3.1.1)."""
    call.peer_media = agreed
    if call.phase is Phase.UNANSWERED and call.search is None and call.offer is not None:
        call.early_media = True
        if call.media_open:
            answering.send_early_media(call)
        else:
            call.open_media(video=answering.may_have_video(call))
    call.set_media()


def peer_answered(call: Call, agreed: Negotiated, *, now: float) -> None:
    """The party is there."""
    call.peer_media = agreed
    _be_answered(call, now=now)


def peer_failed(call: Call, given: PeerFailed) -> None:
    """Nobody was found: the list goes on, and its end may need the reason."""
    call.dial_failure = (given.code, given.reason)
    call.link = call.peer_media = None
    if call.negotiated is not None:
        call.set_media()  # it hears that party's early media no more
    if call.replacement is None:  # else it goes back to whom it has heard before, as far as that one is there
        call.done(Dial)


def not_sought(call: Call, action_id: ActionId, detail: str) -> None:
    """There is no party: the list goes on as after a failure, and no other call's event could tell of it."""
    call.emit(ActionFailed("dial", action_id, "overload", detail), caused_by=action_id)
    call.dial_failure = (503, "Service Unavailable")
    call.done(Dial)


def peer_gone(call: Call, *, ended: bool, now: float) -> None:
    """The other call has ended, or has left. A party that has not been joined with it yet is not wanted any more."""
    link = call.link
    if link is None or call.is_over:
        return
    call.link = None  # whatever follows, there is nobody to be told
    if link.joined:
        call.done(Dial)  # it came to its end by `call.joined`, and is not canceled by what follows
    if link.how == "dial" and not link.asked and not link.joined:
        ending.hang_up(call, "local", "canceled", now=now, caused_by=link.action_id)
    elif ended and link.end_with_peer:
        ending.hang_up(call, "policy", "peer_ended", now=now)
    else:
        call.link = link
        unlink(call)
        call.done(Dial)
        if _waits_for(call, link):
            code, detail = (
                ("ended", "has ended") if ended else ("wrong_state", "has been joined with another, or has left")
            )
            call.emit(ActionFailed("join", link.action_id, code, f"{link.peer} {detail}"), caused_by=link.action_id)
            call.done(Join)


# Joining


def meet(one: Call, other: Call) -> tuple[tuple[Call, CallInput], ...]:
    """What two linked calls are to be told so that they are joined; nothing while one of them is not ready.

    A codec that only one of them speaks is offered to the other one, and then the other way round, before it is given up.
    """
    first, second = one.link, other.link
    if first is None or second is None or first.peer != other.id or second.peer != one.id or first.joined:
        return ()
    if not (_is_ready(one) and _is_ready(other)) or one.negotiated is None or other.negotiated is None:
        return ()
    if can_relay(one.negotiated, other.negotiated):
        return (one, Joined(other.negotiated)), (other, Joined(one.negotiated))
    # Whoever asked goes first: a party that was dialed has just chosen.
    askers = ((one, other), (other, one)) if first.asked else ((other, one), (one, other))
    for call, peer in askers:
        if call.link is not None and not call.link.offered and peer.negotiated is not None:
            return ((call, CodecWanted(peer.negotiated)),)
    detail = f"no codec in common: {one.negotiated.codec} and {other.negotiated.codec}, and each refuses the other's"
    return (one, JoinImpossible(detail)), (other, JoinImpossible(detail))


def joined(call: Call, agreed: Negotiated) -> None:
    """They hear each other."""
    link = call.link
    if link is None or link.joined:
        return
    link.joined = True
    call.peer_media = agreed
    call.emit(CallJoined(link.peer), caused_by=link.action_id)
    call.set_media()
    call.done(Join)


def impossible(call: Call, detail: str, *, now: float) -> None:
    """They will not hear each other: whoever asked for it is told, and a party that was dialed for it is let go."""
    link = call.link
    if link is None:
        return
    call.link = call.peer_media = None
    if link.asked:
        call.emit(ActionFailed(link.how, link.action_id, "no_common_codec", detail), caused_by=link.action_id)
        call.dial_failure = (488, "Not Acceptable Here")
        call.done(Dial)
        call.done(Join)
    elif link.how == "dial":
        ending.hang_up(call, "policy", "not_acceptable", now=now, caused_by=link.action_id)


def _be_answered(call: Call, *, now: float) -> None:
    """An inbound call that was not answered yet is now, because there is somebody to hear."""
    if call.phase is Phase.UNANSWERED and call.search is None:
        answering.begin_answer(call, Answer(), None, now=now)


def _waits_for(call: Call, link: Link) -> bool:
    """Whether the running action is the join that has made this link, and has not come to its end."""
    current = call.list.current if call.list is not None else None
    return current is not None and isinstance(current.action, Join) and current.action_id == link.action_id


def _is_ready(call: Call) -> bool:
    quiet = call.reoffer is None and call.hangup_wanted is None
    # One that has come from another node is heard once its far end knows where it is.
    return call.phase is Phase.ANSWERED and quiet and call.move is None


def unlink(call: Call, *, caused_by: ActionId | None = None) -> None:
    """Hear the other call no more. That one is told, or knows."""
    link, call.link, call.peer_media = call.link, None, None
    if link is not None and link.joined:
        call.emit(CallLeft(link.peer), caused_by=caused_by)
        call.set_media()
