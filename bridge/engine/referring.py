"""A REFER of ours leaves within its call's dialog (RFC 3515), once the transfer is stored; and the dialog that an attended
one replaces is found. What comes back stands in `responses`, and as NOTIFYs in `signalling`.
"""

from __future__ import annotations

from bridge.calls import transferring
from bridge.calls.call import Phase
from bridge.calls.effects import FindDialog
from bridge.calls.inputs import DialogFound, DialogMissing, Parted, ReferSent
from bridge.engine import seeking
from bridge.engine.effects import Fetch
from bridge.engine.holdings import Holdings, Leg, OurRequest
from bridge.engine.inputs import Fetched, NotFetched
from bridge.sip.endpoint import Outcome
from bridge.sip.headers import Line
from bridge.sip.refer import refer_lines
from bridge.sip.replaces import replaces_of


def send_refer(
    holdings: Holdings, leg: Leg, *, proof: tuple[Line, ...] = (), challenges: int = 0, now: float
) -> list[Outcome]:
    """The REFER that the call keeps leaves, unless the call has ended while it was being written."""
    call = leg.call
    under_way = call.transfer
    if under_way is None or under_way.stage != "sent" or call.is_over or call.dialog is None:
        return []
    lines = (*refer_lines(under_way.target, call.dialog), ("User-Agent", call.identity.server), *proof)
    request, flow = seeking.within_dialog(holdings, leg, "REFER", lines)
    holdings.errands.append((call.id, ReferSent(request.cseq.number)))
    ours = OurRequest(call.id, request, flow, credentials=seeking.credentials_of(call), challenges=challenges)
    return seeking.send(holdings, ours, now=now)


def find(holdings: Holdings, leg: Leg, wanted: FindDialog, *, fetched: bool = False) -> None:
    """Look for the dialog of another call of ours. One that another node may have is asked for first, as for a join."""
    other = holdings.legs.get(wanted.call)
    if other is None and holdings.settings.clustered and not fetched:
        holdings.changed(leg.holding)  # whoever carries this one on begins here
        holdings.out.append(Fetch(leg.call.id, wanted.action_id, wanted.call))
        return
    refusal = _why_not(leg, other, wanted)
    if refusal is not None:
        holdings.errands.append((leg.call.id, DialogMissing(wanted.action_id, *refusal)))
    elif other is not None and other.call.dialog is not None:
        dialog = other.call.dialog
        holdings.errands.append((leg.call.id, DialogFound(wanted.action_id, dialog.remote_target, replaces_of(dialog))))


def fetched(holdings: Holdings, leg: Leg, given: Fetched | NotFetched) -> None:
    """The other call of an attended transfer is here, or cannot be had; nobody may wait for that any more."""
    wanted = transferring.waiting(leg.call)
    if wanted is None or wanted.action_id != given.action_id:
        return
    if isinstance(given, Fetched):
        find(holdings, leg, wanted, fetched=True)
    else:
        holdings.errands.append((leg.call.id, DialogMissing(wanted.action_id, given.code, given.detail)))


def take_up(holdings: Holdings, leg: Leg) -> None:
    """Go on with a transfer that whoever carried this call before us had begun: with what has to be found first, or with our
    own end of the call. A REFER that may have left is not sent again: the far end might call twice."""
    if leg.call.transfer is not None and leg.call.transfer.stage == "completed":
        holdings.errands.append((leg.call.id, Parted()))
    wanted = transferring.waiting(leg.call)
    if wanted is not None:
        find(holdings, leg, wanted)


def _why_not(leg: Leg, other: Leg | None, wanted: FindDialog) -> tuple[str, str] | None:
    if other is None:
        return "not_found", f"{wanted.call} is not alive here"
    if other is leg:
        return "invalid", "a call cannot be transferred to itself"
    if other.call.is_over:
        return "ended", f"{wanted.call} has ended"
    if other.call.phase is not Phase.ANSWERED or other.call.dialog is None:
        return "wrong_state", f"{wanted.call} is not answered yet"
    return None
