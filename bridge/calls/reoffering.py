"""We change the session by a re-INVITE (§14.1): hold, unhold, or the codec that the other call of a join speaks.

Glare (491) is tried again after the random wait of §14.1; any other refusal leaves the session as it was. A list waits
until the re-INVITE of its action is through, and goes on whether it was taken or refused. What the far end changes stands
in `holding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.calls import session_timing
from bridge.calls.actions import Hold, Unhold
from bridge.calls.call import Call, Phase
from bridge.calls.effects import Acknowledge, ArmTimer, CallTimer, Keep, SendReinvite, SendUpdate
from bridge.calls.ending import hang_up
from bridge.calls.events import ActionCompleted, ActionFailed
from bridge.calls.facts import ActionId
from bridge.calls.holding import tell_joined
from bridge.calls.reoffer import Purpose, Reoffer
from bridge.sdp.codecs import Codec, codecs_of
from bridge.sdp.description import SessionDescription, parse
from bridge.sdp.offer_answer import Negotiated, read_answer
from bridge.sdp.relaying import reoffer
from bridge.sip.message import Response

GLARES_MOST = 5
_NO_UPDATE = frozenset({405, 501})
_GONE = frozenset({408, 481})  # what says of a request within a dialog that there is none (§12.2.1.2)


def hold(call: Call, action_id: ActionId) -> None:
    """Ask the far end to be silent. Done at once where it is on hold already."""
    if call.on_hold:
        call.done(Hold)
        _completed(call, "hold", action_id)
    else:
        _begin(call, "hold", action_id)


def unhold(call: Call, action_id: ActionId) -> None:
    """Let the far end speak again. Done at once where it is not on hold."""
    if call.on_hold:
        _begin(call, "unhold", action_id)
    else:
        call.done(Unhold)
        _completed(call, "unhold", action_id)


def want_codec(call: Call, agreed: Negotiated) -> None:
    """The other call of a join speaks only this codec."""
    if call.phase is not Phase.ANSWERED or call.reoffer is not None:
        return  # whoever is not ready is asked again once it is
    if call.link is not None:
        call.link.offered = True
    _begin(call, "codec", None, codecs=agreed.incoming)


def refresh_session(call: Call, *, now: float) -> None:
    """The session is to be refreshed, or has expired (RFC 4028 §10). A change that is under way refreshes it as well."""
    session = call.session
    if session is None or call.is_over:
        return
    if session.is_over(now):
        hang_up(call, "network", "session_expired", now=now)
        return
    if call.phase is Phase.ANSWERED and call.reoffer is None and call.move is None:
        _refresh(call)
    call.out.append(ArmTimer(CallTimer.SESSION, session.again_in(now)))


def update_answered(call: Call, response: Response, *, now: float) -> None:
    """A 2xx to our UPDATE."""
    if call.is_over or call.dialog is None:
        return
    call.dialog.refresh_target(response)
    session_timing.answered(call, response, now=now)
    if call.session is not None:
        call.session = call.session._replace(by_update=True)  # whatever its Allow leaves out
    call.out.append(Keep())


def update_refused(call: Call, response: Response | None, *, now: float) -> None:
    """A final response from 300 on, or none: then there is nobody (§12.2.1.2). What may come to be otherwise is tried again
    in time, a far end that takes no UPDATE is sent a re-INVITE instead."""
    if call.is_over or call.session is None:
        return
    if response is None or response.status in _GONE:
        hang_up(call, "network", "unreachable", now=now)
    elif response.status in _NO_UPDATE:
        call.session = call.session._replace(by_update=False)
        refresh_session(call, now=now)


def _refresh(call: Call) -> None:
    if call.session is not None and call.session.by_update:
        call.out.append(SendUpdate())
    elif call.local_sdp is not None:
        # The same description with the same version: nothing changes (RFC 4028 §7.4).
        call.reoffer = Reoffer("refresh", call.local_sdp, call.local_sdp)
        call.out.append(SendReinvite())


def begin_move(call: Call) -> None:
    """Tell the far end where we are now, and with it of the change that was under way, if there is one."""
    under_way = call.reoffer
    if under_way is None or under_way.purpose == "refresh":
        _begin(call, "move", None)
        return
    call.local_sdp = under_way.before
    under_way.sent = False
    try_again(call)


def answered(call: Call, response: Response, *, now: float) -> None:
    """A 2xx: its ACK waits for the store, because it carries us into the new session."""
    call.out.append(Acknowledge(response.cseq.number))
    under_way, call.reoffer = call.reoffer, None
    if under_way is None or call.is_over:
        return
    _through(call, under_way)
    if call.dialog is not None:
        call.dialog.refresh_target(response)
    session_timing.answered(call, response, now=now)
    ours, theirs = parse(under_way.offered), parse(response.body)
    agreed = None
    if isinstance(ours, SessionDescription) and isinstance(theirs, SessionDescription):
        agreed = read_answer(ours, theirs)
    if not isinstance(agreed, Negotiated):
        # Nobody knows any more what is being sent where.
        hang_up(call, "policy", "not_acceptable", now=now, caused_by=under_way.action_id)
        return
    if under_way.purpose in ("hold", "unhold"):
        call.on_hold = under_way.purpose == "hold"
        _completed(call, under_way.purpose, under_way.action_id)
    if under_way.purpose == "refresh":
        agreed = _as_held(call, agreed)
        if agreed == call.negotiated:
            return
    call.negotiated, call.held = agreed, agreed.held
    call.media_generation += 1
    call.set_media()
    tell_joined(call, agreed)


def refused(call: Call, code: int, reason: str, *, chance: float, now: float) -> None:
    """A final response from 300 on, or none (408). `chance`: from 0 to 1, for the wait after a glare."""
    under_way = call.reoffer
    if under_way is None or call.is_over:
        return
    under_way.tries += 1
    if code == 491 and under_way.tries <= GLARES_MOST:
        # §14.1: whoever made the Call-ID waits longer, in steps of 10 ms.
        wait = 2.1 + 1.9 * chance if call.search is not None else 2.0 * chance
        under_way.sent = False
        call.out.append(ArmTimer(CallTimer.GLARE, round(wait, 2)))
        return
    call.reoffer, call.local_sdp = None, under_way.before
    _through(call, under_way)
    if code in _GONE:
        hang_up(call, "network", "unreachable", now=now, caused_by=under_way.action_id)
    elif under_way.action_id is not None:
        detail = f"the far end answered {code} {reason}".rstrip()
        call.emit(
            ActionFailed(under_way.purpose, under_way.action_id, "refused", detail), caused_by=under_way.action_id
        )


def try_again(call: Call) -> None:
    """The wait after a glare is over. Where the far end has changed the session meanwhile, the offer is made anew."""
    under_way = call.reoffer
    if under_way is None or under_way.sent or call.is_over or call.local_sdp is None:
        return
    if call.local_sdp != under_way.offered and under_way.purpose == "refresh":
        call.reoffer = None  # theirs has refreshed the session, and changed it
        return
    if call.local_sdp != under_way.offered:
        asked = _codecs_in(under_way.offered) if under_way.purpose == "codec" else ()
        under_way.before = call.local_sdp
        under_way.offered = call.local_sdp = _offer(call, under_way.before, under_way.purpose, asked)
    call.out.append(SendReinvite())


def _begin(call: Call, purpose: Purpose, action_id: ActionId | None, *, codecs: Sequence[Codec] = ()) -> None:
    before = call.local_sdp
    if before is None:
        raise AssertionError("an answered call has an SDP of ours")
    call.local_sdp = _offer(call, before, purpose, codecs)
    call.reoffer = Reoffer(purpose, call.local_sdp, before, action_id)
    call.out.append(SendReinvite())


def _offer(call: Call, before: bytes, purpose: Purpose, codecs: Sequence[Codec]) -> bytes:
    current = parse(before)
    if not isinstance(current, SessionDescription) or call.negotiated is None:
        raise AssertionError("an answered call has an SDP of ours")
    call.sdp_version += 1
    on_hold = purpose == "hold" or (purpose != "unhold" and call.on_hold)
    made = reoffer(
        current,
        call.local_end(),
        codecs=codecs or call.negotiated.incoming,
        direction="sendonly" if on_hold else "sendrecv",
    )
    # The version rises with every offer, also past one that was refused: no two may bear the same (RFC 3264 §8).
    return made._replace(origin=made.origin._replace(version=str(call.sdp_version))).encode()


def _as_held(call: Call, agreed: Negotiated) -> Negotiated:
    """The answer to a refresh. Who holds us is offered our silence, and says nothing of its hold by taking that."""
    before = call.negotiated
    if before is None or not call.held:
        return agreed
    return replace(agreed, direction=before.direction, held=before.held, allowed=before.allowed)


def _codecs_in(description: bytes) -> tuple[Codec, ...]:
    """The codecs of the first audio line of a description of ours."""
    parsed = parse(description)
    lines = parsed.media if isinstance(parsed, SessionDescription) else ()
    return next((tuple(codecs_of(media)) for media in lines if media.kind == "audio" and media.port), ())


def _through(call: Call, under_way: Reoffer) -> None:
    """A list that has waited for it may go on."""
    if under_way.action_id is not None:
        call.done(Hold if under_way.purpose == "hold" else Unhold)


def _completed(call: Call, name: str, action_id: ActionId | None) -> None:
    if action_id is not None:
        call.emit(ActionCompleted(name, action_id), caused_by=action_id)
