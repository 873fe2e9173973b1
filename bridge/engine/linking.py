"""Calls that come into a conversation, and leave it: parties that are dialed, joins, and the write that moves a call.

Every call is in exactly one conversation, whose record in the store moves with its epoch. A call that changes it takes along
all that is stored of it, in one step for both (survival §6). What the calls say to each other meanwhile is `calls.joining`'s.
"""

from __future__ import annotations

from bridge.calls import dialing, joining
from bridge.calls.actions import Dial
from bridge.calls.call import Call, Link, Phase
from bridge.calls.effects import JoinWith
from bridge.calls.facts import ActionId, CallId, ConversationId
from bridge.calls.inputs import DialRefused, JoinRefused, Linked
from bridge.calls.search import Search
from bridge.engine import referred, referring
from bridge.engine.commit import Release, Take
from bridge.engine.effects import Fetch
from bridge.engine.gate import Moved
from bridge.engine.holdings import Begin, Holding, Holdings, Leg
from bridge.engine.inputs import Fetched, NotFetched
from bridge.engine.settings import Application, Listener
from bridge.engine.writing import head_of, write
from bridge.sip.invite_usage import InviteUsage
from bridge.sip.uri import SipUri, parse_uri

_TAKES_KEPT = 8  # of one call: a store that has forgotten more of its moves than these keeps it where it thinks it is


def seek_party(holdings: Holdings, leg: Leg, action: Dial, action_id: ActionId, *, now: float) -> None:
    """The party that a call dials becomes a call of the same conversation, linked with it."""
    caller = leg.call
    if holdings.live >= holdings.settings.max_calls:
        detail = f"there are {holdings.settings.max_calls} calls already"
        holdings.errands.append((caller.id, DialRefused(action_id, detail)))
        return
    listener = _listener_of(holdings, caller)
    call_id = holdings.new_call_id()
    search = Search.of(
        action.to,
        call_id[5:],
        fork=action.fork,
        on_redirect=action.on_redirect,
        timeout_s=action.timeout_s,
        from_=action.from_ or _from_of(caller, listener),
    )
    party = make_call(holdings, leg.holding, call_id, leg.application, search=search, listener=listener, now=now)
    party.call.client_state = action.client_state
    party.call.max_forwards = caller.max_forwards - 1
    party.call.mirrored = caller.offer  # while it is there: an answered call's codec goes before all others
    party.call.peer_media = caller.negotiated if caller.phase is Phase.ANSWERED else None
    caller.link = Link(call_id, "dial", asked=True, action_id=action_id, end_with_peer=action.end_with_peer)
    party.call.link = caller.link.mirrored(caller.id)
    if caller.replacement is not None:
        caller.replacement.party = call_id


def make_call(
    holdings: Holdings,
    holding: Holding,
    call_id: CallId,
    application: Application,
    *,
    search: Search,
    listener: Listener,
    now: float,
) -> Leg:
    """A call to a party that is to be sought, in this conversation. Its first step is an errand."""
    call = dialing.sought(
        id=call_id,
        conversation_id=holding.id,
        plan=application.plan,
        identity=listener.identity,
        tag=holdings.names.tag(call_id),
        search=search,
        now=now,
    )
    leg = Leg(call, holding, application, InviteUsage(holdings.settings.timers), b"")
    leg.listener = listener.name
    holding.legs[call_id] = holdings.legs[call_id] = leg
    holdings.live += 1
    holdings.errands.append((call_id, Begin()))
    return leg


def join_with(holdings: Holdings, leg: Leg, wanted: JoinWith, *, fetched: bool = False, now: float) -> None:
    """Bring another call into one conversation with this one: that of the smaller name (survival §6). One that another node
    may have is asked for first. `fetched`: that has been done."""
    other = holdings.legs.get(wanted.other)
    if other is None and holdings.settings.clustered and not fetched:
        holdings.changed(leg.holding)  # whoever carries this one on begins here
        holdings.out.append(Fetch(leg.call.id, wanted.action_id, wanted.other))
        return
    refusal = _why_not(leg.call, other, wanted)
    if other is None or refusal is not None:
        holdings.errands.append((leg.call.id, JoinRefused(wanted.action_id, *(refusal or _unknown(wanted)))))
        return
    if other.holding is not leg.holding:
        stays, moves = (leg, other) if leg.holding.id < other.holding.id else (other, leg)
        _leave_behind(holdings, stays, now=now)
        move(holdings, moves, stays.holding, now=now)
    link = Link(other.call.id, "join", asked=True, action_id=wanted.action_id, end_with_peer=wanted.end_with_peer)
    holdings.errands.append((leg.call.id, Linked(link, other.call.negotiated)))
    holdings.errands.append((other.call.id, Linked(link.mirrored(leg.call.id), leg.call.negotiated)))


def fetched(holdings: Holdings, given: Fetched | NotFetched, *, now: float) -> None:
    """The other call of a join is here, or cannot be had. Nobody waits for that where the list has been replaced, or has
    gone to another node."""
    leg = holdings.legs.get(given.call)
    if leg is not None:
        referring.fetched(holdings, leg, given)
        referred.fetched(holdings, leg, given)
    wanted = None if leg is None else joining.waiting(leg.call)
    if leg is None or wanted is None or wanted.action_id != given.action_id:
        return
    if isinstance(given, Fetched):
        join_with(holdings, leg, wanted, fetched=True, now=now)
    else:
        holdings.errands.append((leg.call.id, JoinRefused(wanted.action_id, given.code, given.detail)))


def join_again(holdings: Holdings, leg: Leg, *, now: float) -> None:
    """Go on with a join that whoever carried this call before us had begun, if there is one."""
    wanted = joining.waiting(leg.call)
    if wanted is not None:
        join_with(holdings, leg, wanted, now=now)


def move_out(holdings: Holdings, leg: Leg, *, now: float) -> None:
    """Give a call a conversation of its own, unless it is alone already."""
    if all(each is leg or each.call.is_over for each in leg.holding.legs.values()):
        return
    name = ConversationId("conv_" + holdings.tokens.token(24))
    holding = Holding(name, created_at=now, epoch=1, nonce=holdings.new_nonce())
    holdings.conversations[name] = holding
    move(holdings, leg, holding, now=now)


def _leave_behind(holdings: Holdings, leg: Leg, *, now: float) -> None:
    """Whoever else is in its conversation goes into another one; two that hear each other, into the same."""
    left = leg.holding
    for each in [each for each in left.legs.values() if each is not leg and not each.call.is_over]:
        if each.holding is not left:
            continue  # it has gone along with its peer
        move_out(holdings, each, now=now)
        peer = left.legs.get(each.call.link.peer) if each.call.link is not None else None
        if peer is not None and peer is not leg:
            move(holdings, peer, each.holding, now=now)


def move(holdings: Holdings, leg: Leg, into: Holding, *, now: float) -> None:
    """Take a call out of its conversation, and write it as a part of the other one."""
    left = leg.holding
    write(holdings, left)  # what its last steps have changed is a write of the conversation in which they happened
    del left.legs[leg.call.id]
    left.version += 1
    unwritten = holdings.changed(into)
    take = Take(left.id, left.epoch, left.nonce, left.version, head_of(holdings, left), (leg.call.id,))
    unwritten.takes += (take,)
    unwritten.waiting.append(Moved(leg.call.id, left.id))
    leg.takes = [*leg.takes, take][-_TAKES_KEPT:]
    into.legs[leg.call.id] = leg
    leg.holding, leg.stored = into, False
    leg.call.conversation_id = into.id
    if not left.legs:
        holdings.conversations.pop(left.id, None)
        holdings.remember_release(Release(left.id, (), holdings.settings.owner), now=now)


def _why_not(call: Call, other: Leg | None, wanted: JoinWith) -> tuple[str, str] | None:
    if other is None:
        return _unknown(wanted)
    if other.call is call:
        return "invalid", "a call cannot be joined with itself"
    if other.call.is_over:
        return "ended", f"{wanted.other} has ended"
    if other.call.phase is not Phase.ANSWERED and not other.call.is_unanswered:
        return "wrong_state", f"{wanted.other} is not answered yet"
    if call.link is not None and call.link.peer == wanted.other:
        return "wrong_state", "the two are joined, or being joined, already"
    if call.is_unanswered and other.call.is_unanswered:
        return "wrong_state", "neither of the two calls is answered: nobody knows what they could speak"
    return None


def _unknown(wanted: JoinWith) -> tuple[str, str]:
    return "not_found", f"{wanted.other} is not alive here"


def _listener_of(holdings: Holdings, caller: Call) -> Listener:
    """The listener whose name a new party sees in our Contact and From: the caller's own."""
    if caller.flow is not None:
        return holdings.settings.listener_of(caller.way)
    return next(iter(holdings.settings.listeners.values()))


def _from_of(caller: Call, listener: Listener) -> str:
    """The caller, as the party sees it: its name and user, at our address, for it is us who call."""
    user = caller.from_.user if caller.direction == "inbound" else caller.to.user
    contact = parse_uri(listener.identity.contact.strip("<>"))
    host = contact._replace(user=user, params=()) if isinstance(contact, SipUri) else contact
    name = caller.from_.display_name if caller.direction == "inbound" else None
    quoted = "" if not name else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '" '
    return f"{quoted}<{host}>"
