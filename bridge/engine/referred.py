"""A REFER that comes within a dialog: who may refer, and what about; the NOTIFYs that answer it; and the call that an attended
one replaces, wherever that is (RFC 3515, RFC 3891). What becomes of it stands in `calls.referred`.
"""

from __future__ import annotations

from bridge.calls import referred
from bridge.calls.call import Phase
from bridge.calls.effects import FindReplaced, JoinWith, ReplaceDialog, SendNotify, TakePlace
from bridge.calls.facts import CallId
from bridge.calls.inputs import JoinRefused, NotifyLost, ReplacedHere, ReplacedMissing
from bridge.calls.peering import DialogReplaced
from bridge.calls.referral import Referral
from bridge.engine import linking, seeking
from bridge.engine.effects import Fetch
from bridge.engine.holdings import Holdings, Leg, OurRequest
from bridge.engine.inputs import Fetched, NotFetched
from bridge.sip.endpoint import Outcome
from bridge.sip.headers import Line
from bridge.sip.message import Request
from bridge.sip.refer import Unusable, notice_body, notice_lines, read_refer
from bridge.sip.replaces import Replaces, parse_replaces
from bridge.sip.transaction import TransactionKey

_LATER = 491  # one at a time: the next may be tried when this one is through


def considered(holdings: Holdings, leg: Leg, key: TransactionKey, request: Request) -> Referral | Unusable:
    """What this REFER asks for, where its application may be asked about it; else the answer to it.

    Only an application that has opted in is asked, and only for a far end that has a partner to be connected.
    """
    call, link = leg.call, leg.call.link
    if not leg.application.transfers:
        return Unusable(403, "Transfers Not Allowed")
    if call.phase is not Phase.ANSWERED:
        return Unusable(481, "Call/Transaction Does Not Exist")
    if call.referral is not None or call.transfer is not None or call.replacement is not None:
        return Unusable(_LATER, "Request Pending")
    wish = read_refer(request)
    if isinstance(wish, Unusable):
        return wish
    partner = holdings.legs.get(link.peer) if link is not None and link.joined else None
    if partner is None or link is None:
        return Unusable(403, "Nobody To Transfer")
    if partner.call.transfers >= referred.TRANSFERS_MOST or partner.call.replacement is not None:
        return Unusable(482, "Transferred Too Often")
    replaces, replaced = wish.replaces, None
    if replaces is not None:
        replaced = holdings.names.call_of_tag(replaces.to_tag)
        if replaced in (call.id, partner.call.id):
            return Unusable(481, "Call/Transaction Does Not Exist")  # it cannot take the place of itself
    return Referral(
        wish.target,
        request.cseq.number,
        wish.subscribes,
        wish.referred_by,
        replaced,
        "" if replaces is None else str(replaces),
        partner=partner.call.id,
        key=key,
        request=request,
    )


def is_repeated(leg: Leg, request: Request) -> bool:
    """Whether this REFER is known: whoever carried the call on before us had it, and its answer may have been lost."""
    referral = leg.call.referral
    return request.method == "REFER" and referral is not None and referral.sequence == request.cseq.number


def send_notify(
    holdings: Holdings, leg: Leg, told: SendNotify, *, proof: tuple[Line, ...] = (), challenges: int = 0, now: float
) -> list[Outcome]:
    """A NOTIFY about the call's REFER leaves, unless the call has ended while that was being written."""
    call = leg.call
    if call.is_over or call.dialog is None or call.referral is None:
        return []
    lines = (
        *notice_lines(call.referral.sequence, expires_s=told.expires_s, over=told.over),
        ("User-Agent", call.identity.server),
        *proof,
    )
    body = notice_body(told.code, told.reason)
    request, flow = seeking.within_dialog(holdings, leg, "NOTIFY", lines, body)
    ours = OurRequest(
        call.id, request, flow, credentials=seeking.credentials_of(call), challenges=challenges, notice=told
    )
    return seeking.send(holdings, ours, now=now)


def find(holdings: Holdings, leg: Leg, wanted: FindReplaced, *, fetched: bool = False) -> None:
    """Have the call here that is to be replaced. One that another node may have is asked for first, as for a join."""
    if wanted.call not in holdings.legs and holdings.settings.clustered and not fetched:
        holdings.changed(leg.holding)  # whoever carries this one on begins here
        holdings.out.append(Fetch(leg.call.id, wanted.action_id, wanted.call))
        return
    holdings.errands.append((leg.call.id, ReplacedHere(wanted.action_id)))


def fetched(holdings: Holdings, leg: Leg, given: Fetched | NotFetched) -> None:
    """It is here, or cannot be had; nobody may wait for that any more."""
    wanted = referred.waiting(leg.call)
    if wanted is None or wanted.action_id != given.action_id:
        return
    if isinstance(given, Fetched):
        find(holdings, leg, wanted, fetched=True)
    else:
        holdings.errands.append((leg.call.id, ReplacedMissing(wanted.action_id)))


def take_up(holdings: Holdings, leg: Leg) -> None:
    """Go on with a REFER that whoever carried this call before us had begun with."""
    wanted = referred.waiting(leg.call)
    if wanted is not None:
        find(holdings, leg, wanted)
    if leg.call.referral is not None:
        holdings.errands.append((leg.call.id, NotifyLost()))


def take_place(holdings: Holdings, leg: Leg, wanted: TakePlace, *, now: float) -> None:
    """This call is connected with the partner of the one that is replaced, and that one ends."""
    replaced, referrer = holdings.legs.get(wanted.replaced), holdings.legs.get(wanted.referrer)
    partner = _partner_of(holdings, replaced, parse_replaces(wanted.dialog))
    if replaced is None or partner is None or referrer is None or partner == leg.call.id:
        holdings.errands.append((leg.call.id, JoinRefused(wanted.action_id, "not_found", "nobody is there")))
        return
    if not is_of_same_party(referrer, replaced):
        holdings.errands.append((leg.call.id, JoinRefused(wanted.action_id, "forbidden", "it is somebody else's")))
        return
    if leg.call.replacement is not None:
        leg.call.replacement.party = partner
    join = JoinWith(partner, wanted.action_id, wanted.end_with_peer)
    before = len(holdings.errands)
    linking.join_with(holdings, leg, join, fetched=True, now=now)
    if not any(isinstance(errand, JoinRefused) for _, errand in list(holdings.errands)[before:]):
        holdings.errands.append((replaced.call.id, DialogReplaced()))


def replaced_by(holdings: Holdings, request: Request, username: str | None) -> Leg | Unusable:
    """The call whose place this INVITE may take (RFC 3891 §3); else the answer to it.

    Who may: another call of the same user, and otherwise whomever the application lets, where it has opted in; it is told
    which call is meant, and nothing happens unless it answers.
    """
    values = request.headers.lines("Replaces")
    named = parse_replaces(values[0]) if len(values) == 1 else None
    if named is None:
        return Unusable(400, "Bad Replaces")
    leg = _named(holdings, named)
    if leg is None:
        return Unusable(481, "Call/Transaction Does Not Exist")
    if leg.call.is_over:
        return Unusable(603, "Decline")
    if leg.call.phase is not Phase.ANSWERED:
        return Unusable(481, "Call/Transaction Does Not Exist")  # an early dialog that we have not begun
    if named.early_only:
        return Unusable(486, "Busy Here")
    own = username is not None and username == leg.call.authenticated_as
    if not own and not leg.application.transfers:
        return Unusable(603, "Decline")
    return leg


def replace_dialog(holdings: Holdings, leg: Leg, wanted: ReplaceDialog, *, now: float) -> None:
    """Its INVITE is answered: whoever heard the replaced call hears this one, and that one ends. Where it has ended meanwhile
    there is nothing to be replaced."""
    named = parse_replaces(wanted.dialog)
    replaced = _named(holdings, named) if named is not None else None
    if replaced is None or replaced is leg or replaced.call.is_over:
        return
    link = replaced.call.link
    if link is not None and link.joined:
        join = JoinWith(link.peer, wanted.action_id, link.end_with_peer)
        linking.join_with(holdings, leg, join, fetched=True, now=now)
    holdings.errands.append((replaced.call.id, DialogReplaced()))


def is_of_same_party(one: Leg, other: Leg) -> bool:
    """Whether both calls are the same phone's: one user's, or from one address; and one application's.

    Tags of ours cannot be guessed, so whoever names a dialog has had it, or has seen it; this keeps out those who have only
    seen it (RFC 3891 §7).
    """
    if one.application.name != other.application.name:
        return False
    users = (one.call.authenticated_as, other.call.authenticated_as)
    if None not in users:
        return users[0] == users[1]
    return one.call.way.host == other.call.way.host


def _named(holdings: Holdings, named: Replaces) -> Leg | None:
    """The call with this dialog, if it is here."""
    leg = holdings.legs.get(holdings.names.call_claimed_by(named.to_tag))
    if leg is None or leg.call.dialog is None or not holdings.names.matches(named.to_tag, leg.call.tag):
        return None
    dialog = leg.call.dialog
    return leg if (dialog.call_id, dialog.remote_tag) == (named.call_id, named.from_tag) else None


def _partner_of(holdings: Holdings, replaced: Leg | None, named: Replaces | None) -> CallId | None:
    """Whom the call with this dialog hears; None where it is no such call, or hears nobody."""
    if replaced is None or named is None or replaced.call.is_over or named.early_only:
        return None
    link = replaced.call.link
    return link.peer if link is not None and link.joined and _named(holdings, named) is replaced else None
