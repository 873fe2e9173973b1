"""We ask the far end to call somebody else in our place: REFER (RFC 3515), as RFC 5589 has it done.

Once the far end has reached its target our leg is ended by a BYE; if it does not get there, the call goes on as it was.
Whoever is told nothing for long enough takes that for a failure. How a REFER leaves stands in `engine.referring`.
"""

from __future__ import annotations

from bridge.calls.actions import Transfer as TransferAction
from bridge.calls.call import Call, Phase
from bridge.calls.effects import ArmTimer, CallTimer, DisarmTimer, FindDialog, Keep, Part, Respond, SendRefer
from bridge.calls.ending import hang_up
from bridge.calls.events import ActionFailed, TransferCompleted, TransferFailed, TransferProgress
from bridge.calls.facts import ActionId, CallId
from bridge.calls.inputs import (
    CallInput,
    DialogFound,
    DialogMissing,
    Notified,
    Parted,
    ReferAnswered,
    ReferRefused,
    ReferSent,
)
from bridge.calls.transfer import Transfer
from bridge.sip.replaces import with_replaces
from bridge.sip.user_agent import respond

FIRST_NOTICE_S = 32.0  # 64·T1: for an answer to the REFER, and from that for the first NOTIFY
NEXT_NOTICE_S = 180.0  # while the target is being called: as long as a proxy's Timer C (§16.6)
_GONE = 481


def wrong_state(call: Call) -> str | None:
    """Why this call cannot be transferred now; None when it can."""
    if call.phase is not Phase.ANSWERED:
        return "transfer needs an answered call, and this one is not answered"
    if call.transfer is not None or call.referral is not None or call.replacement is not None:
        return "transfer needs a call that is not being transferred already"
    return None


def begin(call: Call, action: TransferAction, action_id: ActionId, *, now: float) -> None:
    """Send the REFER; for an attended transfer, find the dialog first that is to be replaced."""
    replaces = None if action.replaces_call_id is None else CallId(action.replaces_call_id)
    call.transfer = Transfer(action_id, action.to or "", replaces)
    if action.to is not None and not call.plan.destinations.permit(action.to):
        _failed(call, 403, "Destination Not Allowed")
    elif call.transfer.replaces is not None:
        call.out.append(FindDialog(call.transfer.replaces, action_id))
    else:
        _refer(call, call.transfer, action.to or "", now=now)


def stepped(call: Call, given: CallInput, *, now: float) -> bool:
    """What a transfer makes of this input; False: it is about something else."""
    match given:
        case DialogFound(action_id, target, replaces):
            under_way = _under_way(call, action_id)
            if under_way is not None:
                _refer(call, under_way, with_replaces(under_way.to or target, replaces), now=now)
        case DialogMissing(action_id, code, detail):
            if _under_way(call, action_id) is not None:
                call.emit(ActionFailed("transfer", action_id, code, detail), caused_by=action_id)
                _over(call)
        case ReferSent(sequence):
            if call.transfer is not None:
                call.transfer.sequence = sequence
                call.out.append(Keep())
        case ReferAnswered(code, reason):
            _accepted(call, code, reason, now=now)
        case ReferRefused(code, reason):
            _refused(call, code, reason, now=now)
        case Notified():
            _notified(call, given, now=now)
        case Parted():
            _part(call, now=now)
        case _:
            return False
    return True


def expired(call: Call) -> None:
    """Nothing has been heard of it for as long as it is waited for."""
    if call.transfer is not None:
        _failed(call, 408, "Request Timeout")


def waiting(call: Call) -> FindDialog | None:
    """The dialog that an attended transfer still has to find."""
    under_way = call.transfer
    if under_way is None or under_way.stage != "finding" or under_way.replaces is None or call.is_over:
        return None
    return FindDialog(under_way.replaces, under_way.action_id)


def _refer(call: Call, under_way: Transfer, target: str, *, now: float) -> None:
    under_way.stage, under_way.target = "sent", target
    _wait(call, under_way, FIRST_NOTICE_S, now=now)
    call.out.append(SendRefer())


def _accepted(call: Call, code: int, reason: str, *, now: float) -> None:
    """A 2xx says only that the far end will try. A NOTIFY may have overtaken it (RFC 3515 §2.4.4)."""
    under_way = call.transfer
    if under_way is None or under_way.stage != "sent":
        return
    under_way.stage = "accepted"
    call.emit(TransferProgress(under_way.target, code, reason), caused_by=under_way.action_id)
    if not under_way.code:
        _wait(call, under_way, FIRST_NOTICE_S, now=now)


def _refused(call: Call, code: int, reason: str, *, now: float) -> None:
    if call.transfer is None or call.transfer.stage != "sent":
        return
    _failed(call, code, reason)
    if code == _GONE:
        hang_up(call, "network", "unreachable", now=now)  # of a dialog that is not there nothing is left (§12.2.1.2)


def _notified(call: Call, given: Notified, *, now: float) -> None:
    """A NOTIFY. Its answer waits for the store: who has heard the last word is not told it twice."""
    under_way, notice = call.transfer, given.notice
    if (
        under_way is None
        or under_way.stage == "completed"
        or (notice.id is not None and under_way.sequence not in (0, notice.id))
    ):
        _answer(call, given, _GONE)  # of no subscription of ours (RFC 6665 §4.1.3)
        return
    if notice.status is None and not notice.over:
        _answer(call, given, 400)
        return
    _answer(call, given, 200)
    code = notice.status or 0
    if 200 <= code < 300:
        call.emit(TransferCompleted(under_way.target, code, notice.reason), caused_by=under_way.action_id)
        under_way.stage = "completed"
        call.out.append(DisarmTimer(CallTimer.TRANSFER))
        call.out.append(Part())  # whoever carries the call on knows that it is to be ended
    elif code >= 300:
        _failed(call, code, notice.reason)
    elif notice.over:
        _failed(call, 408, "No Outcome")  # the far end has stopped telling before it knew
    elif code > under_way.code:  # a far end that says the same again, or goes back, tells nothing new
        under_way.code = code
        call.emit(TransferProgress(under_way.target, code, notice.reason), caused_by=under_way.action_id)
        _wait(call, under_way, NEXT_NOTICE_S, now=now)


def _part(call: Call, *, now: float) -> None:
    if call.transfer is not None and call.transfer.stage == "completed" and not call.is_over:
        _over(call)
        hang_up(call, "local", "transferred", now=now)


def _answer(call: Call, given: Notified, status: int) -> None:
    response = respond(given.request, status, headers=(("Server", call.identity.server),))
    call.out.append(Respond(given.key, response, gated=status == 200))


def _failed(call: Call, code: int, reason: str) -> None:
    under_way = call.transfer
    if under_way is not None:
        target = under_way.target or under_way.to
        call.emit(TransferFailed(target, code, reason), caused_by=under_way.action_id)
        _over(call)


def _over(call: Call) -> None:
    """A list that has waited for it may go on."""
    call.transfer = None
    call.out.append(DisarmTimer(CallTimer.TRANSFER))
    call.done(TransferAction)


def _wait(call: Call, under_way: Transfer, seconds: float, *, now: float) -> None:
    under_way.expires_at = now + seconds
    call.out.append(ArmTimer(CallTimer.TRANSFER, seconds))


def _under_way(call: Call, action_id: ActionId) -> Transfer | None:
    under_way = call.transfer
    return under_way if under_way is not None and under_way.action_id == action_id else None
