"""The way by a trunk: a place where there are caps, then its servers in turn, looked up where they have names.

Which server is asked first is chance's choice within a priority, as of SRV records (RFC 2782); the others are for when it fails. What a
trunk has to say is written down with the attempt, so that whoever carries a call on needs no trunk for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.calls.actions import Target
from bridge.calls.facts import CallId
from bridge.calls.inputs import InviteFailed, Located
from bridge.calls.search import InviteAttempt, Place
from bridge.engine.effects import LeavePlace, Resolve, TakePlace
from bridge.engine.holdings import Holdings, Leg
from bridge.engine.inputs import PlaceTaken, Resolved
from bridge.engine.seeking import attempt_of, flow_towards
from bridge.engine.trunks import Lookup, Trunk
from bridge.sip.locating import Hop, Srv, in_turn, wanted_of, without_questions
from bridge.sip.uri import TelUri, parse_uri


def locate(holdings: Holdings, leg: Leg, attempt: InviteAttempt, *, now: float) -> None:
    """Find the way to an attempt's target by its trunk, which may have no place left."""
    trunk = holdings.trunks.get(attempt.target.trunk)
    if trunk is None:
        _failed(holdings, leg.call.id, InviteFailed(attempt.number, 404, "No Such Trunk", "not_found"))
    elif trunk.has_caps:
        reader = holdings.new_reader(leg.call.id, attempt.number)
        holdings.out.append(TakePlace(reader, leg.call.id, trunk.name, trunk.max_calls, trunk.calls_per_second))
    else:
        _look_for_servers(holdings, leg.call.id, attempt, trunk, now=now)


def place_taken(holdings: Holdings, given: PlaceTaken, *, now: float) -> None:
    """Whether the trunk has a place for the call."""
    call_id, number = holdings.readers.pop(given.reader, (None, 0))
    leg = holdings.legs.get(call_id) if call_id is not None else None
    if call_id is None or leg is None or leg.call.search is None or leg.call.is_over:
        if given.taken:
            holdings.out.append(LeavePlace(given.trunk, given.call))
        return
    attempt = attempt_of(leg.call, number)
    trunk = holdings.trunks.get(given.trunk)
    if given.taken is None:
        _failed(holdings, call_id, InviteFailed(number, 503, "Store Away", "unreachable"))
    elif not given.taken:
        _failed(holdings, call_id, InviteFailed(number, 503, "Trunk Full", "overload"))
    elif trunk is None:
        holdings.out.append(LeavePlace(given.trunk, given.call))
        _failed(holdings, call_id, InviteFailed(number, 404, "No Such Trunk", "not_found"))
    else:
        _look_for_servers(holdings, call_id, attempt, trunk, now=now)


def resolved(holdings: Holdings, given: Resolved, *, now: float) -> bool:
    """Where the name of a trunk's server leads; False: nobody has asked that for a trunk."""
    lookup, index = holdings.trunks.asked.pop(given.reader, (None, 0))
    if lookup is None:
        return False
    holdings.readers.pop(given.reader, None)
    lookup.hops[index] = given.hops
    _go(holdings, lookup, now=now)
    return True


def leave(holdings: Holdings, call: CallId, trunk: str) -> None:
    """Give a place back."""
    holdings.out.append(LeavePlace(trunk, call))


def _look_for_servers(holdings: Holdings, call: CallId, attempt: InviteAttempt, trunk: Trunk, *, now: float) -> None:
    numbered = [Srv(each.priority, each.weight, 0, str(number)) for number, each in enumerate(trunk.servers)]
    servers = [trunk.servers[int(each.target)] for each in in_turn(numbered, holdings.chance)]
    wanted = [wanted_of(each.uri) for each in servers]
    hops: list[Sequence[Hop] | None] = []
    for each in wanted:
        hop = without_questions(each)
        hops.append(None if hop is None else [hop])
    lookup = Lookup(call, attempt.number, trunk, servers, hops)
    spoken = frozenset((each.transport, each.version) for each in holdings.settings.listeners.values())
    for index, each in enumerate(wanted):
        if hops[index] is None:
            reader = holdings.new_reader(call, attempt.number)
            holdings.trunks.asked[reader] = (lookup, index)
            holdings.out.append(Resolve(reader, each, spoken))
    _go(holdings, lookup, now=now)


def _go(holdings: Holdings, lookup: Lookup, *, now: float) -> None:
    """Once all of them are found, or are nowhere: say where the INVITE goes."""
    if any(each is None for each in lookup.hops):
        return
    leg, trunk = holdings.legs.get(lookup.call), lookup.trunk
    if leg is None or leg.call.search is None:
        return
    attempt = attempt_of(leg.call, lookup.attempt)
    hosts = {
        hop: server.uri.host for server, hops in zip(lookup.servers, lookup.hops, strict=True) for hop in hops or ()
    }
    ways = holdings.outages.in_turn(list(hosts), now=now)
    flows = [flow for hop in ways if (flow := flow_towards(holdings, hop, hosts[hop])) is not None]
    target = _completed(attempt.target, trunk, holdings)
    if not flows:
        if target.has_place:
            leave(holdings, lookup.call, trunk.name)
        why = "No Listener Reaches The Trunk" if ways else "Host Unknown"
        _failed(holdings, lookup.call, InviteFailed(lookup.attempt, 503, why, "unreachable"))
        return
    place = Place(_request_uri(attempt.target.uri, trunk), flows[0], further=tuple(flows[1:]))
    holdings.errands.append((lookup.call, Located(lookup.attempt, (place,), target)))


def _completed(target: Target, trunk: Trunk, holdings: Holdings) -> Target:
    """The target with what its trunk has to say. What the application has said itself goes before that."""
    auth = target.auth or trunk.auth
    if auth is not None and not auth.sealed and auth.password is not None:
        auth = replace(auth, sealed=holdings.seal.seal(auth.password))
    return replace(
        target,
        auth=auth,
        headers={**trunk.headers, **target.headers},
        from_=trunk.from_,
        next_on=trunk.next_on,
        has_place=trunk.max_calls > 0,
        latching=trunk.latching,
    )


def _request_uri(asked: str, trunk: Trunk) -> str:
    """A number at the trunk's domain (RFC 3261 §19.1.6); a URI as it is."""
    uri = parse_uri(asked)
    return f"sip:{uri.number.replace('#', '%23')}@{trunk.domain};user=phone" if isinstance(uri, TelUri) else asked


def _failed(holdings: Holdings, call: CallId, failed: InviteFailed) -> None:
    holdings.errands.append((call, failed))
