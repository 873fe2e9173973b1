"""Letting go of a conversation that another node shall carry on, while everything about it is at rest (survival §4, drain).

Whoever asked writes to the store whose it is, and tells that node. Its media ports stay open for a while: until both far
ends have been told where to send, one of them still sends here, and hears what comes from here.
"""

from __future__ import annotations

from bridge.calls import joining, referred, transferring
from bridge.calls.call import Call, Phase
from bridge.calls.facts import ConversationId
from bridge.calls.streams import video_session
from bridge.engine.carrying import drop
from bridge.engine.effects import ClosePorts, Yielded, YieldRefused
from bridge.engine.fencing import is_fenced
from bridge.engine.holdings import Holding, Holdings, Leg
from bridge.engine.inputs import Yield
from bridge.sip.invite_usage import UsageState

LINGER_S = 10.0  # a far end that has not answered a re-INVITE by then is heard no more here


def let_go(holdings: Holdings, given: Yield, *, now: float) -> None:
    """Forget the conversation without a word to anybody, unless something about it is under way."""
    holding = holdings.conversations.get(given.conversation)
    if holding is None:
        holdings.out.append(YieldRefused(given.request, "gone"))
        return
    if _stays(holding, given.wanted_by) or not _is_at_rest(holdings, holding, now=now):
        rings = any(_is_unanswered(leg.call) for leg in holding.legs.values())
        holdings.out.append(YieldRefused(given.request, "ringing" if rings else "busy"))
        return
    for leg in holding.legs.values():
        for session in _sessions(leg.call):
            holdings.lingering.arm(session, now + LINGER_S)
    calls = tuple(holding.legs)
    written = (holding.epoch, holding.nonce, holding.version)
    holdings.out.append(Yielded(given.request, holding.id, *written, calls, holding.snapshot))
    drop(holdings, holding, keep_ports=True)


def stay(holdings: Holdings, call: Call) -> None:
    """It has come back before its ports were closed: they are its own again, unless it has ended elsewhere."""
    if call.is_over:
        return
    for session in (call.id, video_session(call.id)):
        holdings.lingering.disarm(session)


def wake(holdings: Holdings, *, now: float) -> None:
    """Close the ports of those that have gone."""
    while (session := holdings.lingering.pop_due(now)) is not None:
        holdings.out.append(ClosePorts(session))


def _stays(holding: Holding, wanted_by: ConversationId | None) -> bool:
    """Whether a call of it waits for one that is to come here, and has the order on its side: of two that each want the
    other's, and of many in a circle, one gives in."""
    if wanted_by is None or wanted_by < holding.id:
        return False
    calls = [leg.call for leg in holding.legs.values()]
    return any(
        (joining.waiting(call) or transferring.waiting(call) or referred.waiting(call)) is not None for call in calls
    )


def _is_unanswered(call: Call) -> bool:
    return call.phase in (Phase.UNANSWERED, Phase.ANSWERING)


def _is_at_rest(holdings: Holdings, holding: Holding, *, now: float) -> bool:
    """Whether the store knows everything, and can be told whose it is, and nobody waits for an answer of ours, or we for
    theirs."""
    if holdings.store_away_since is not None or is_fenced(holdings, holding, now=now):
        return False
    if holding.aside or holding.unwritten is not None or holding.gate.tickets():
        return False
    return all(_rests(holdings, leg) for leg in holding.legs.values())


def _rests(holdings: Holdings, leg: Leg) -> bool:
    call = leg.call
    if leg.acks or holdings.outbox.is_flying(call.id):
        return False
    if call.phase is Phase.ENDED:
        return True
    if call.referral is not None and (call.referral.key is not None or call.referral.saying):
        return False  # its far end waits for an answer, or we for its
    quiet = call.reoffer is None and call.reinvite is None and call.hangup_wanted is None and call.move is None
    return call.phase is Phase.ANSWERED and quiet and leg.usage.state is UsageState.IDLE


def _sessions(call: Call) -> tuple[str, ...]:
    if not call.media_open or call.phase is Phase.ENDED:
        return ()
    return (call.id,) if call.video_port is None else (call.id, video_session(call.id))
