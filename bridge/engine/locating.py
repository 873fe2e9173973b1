"""Where a party is: an IP address, a name that the DNS leads from (RFC 3263), an address of record of ours, or an outbound proxy.

Begins each attempt of a search. What it says to whoever is there stands in `seeking`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bridge.calls.inputs import InviteFailed, Located
from bridge.calls.search import Place
from bridge.engine import trunking
from bridge.engine.effects import Resolve
from bridge.engine.holdings import Holdings, Leg
from bridge.engine.inputs import Resolved
from bridge.engine.registrations import BindingsRead, ReadBindings
from bridge.engine.seeking import attempt_of, flow_towards
from bridge.sip.flow import Flow, default_port
from bridge.sip.locating import Hop, Wanted, transport_of, wanted_of, without_questions
from bridge.sip.registrar import AddressOfRecord, Binding, address_of_record
from bridge.sip.uri import SipUri, is_sips, parse_uri


def locate(holdings: Holdings, leg: Leg, number: int, *, now: float) -> None:
    """Find out where an attempt's target is. An address needs no look-up; a name does."""
    attempt = attempt_of(leg.call, number)
    uri = parse_uri(attempt.proxy or attempt.target.uri)
    if leg.call.max_forwards < 0:
        unreachable(holdings, leg, number, 483, "Too Many Hops")  # a caller that has come in a circle (§8.1.1.6)
        return
    if attempt.target.trunk:
        trunking.locate(holdings, leg, attempt, now=now)
        return
    if not isinstance(uri, SipUri):
        unreachable(holdings, leg, number, 416, "Unsupported URI Scheme")
        return
    aor = None if attempt.proxy else registered(holdings, uri)
    if aor is not None:
        holdings.out.append(ReadBindings(holdings.new_reader(leg.call.id, number), aor))
        return
    wanted = _wanted(holdings, uri)
    hop = without_questions(wanted)
    if hop is not None:  # most of them: nobody has to be asked
        _found(holdings, leg, number, uri, [hop])
        return
    spoken = frozenset((each.transport, each.version) for each in holdings.settings.listeners.values())
    if wanted.transport is not None and wanted.transport not in {transport for transport, _ in spoken}:
        _unreached(holdings, leg, number, wanted.transport)
        return
    holdings.out.append(Resolve(holdings.new_reader(leg.call.id, number), wanted, spoken))


def resolved(holdings: Holdings, given: Resolved, *, now: float) -> None:
    """Where a name leads."""
    call_id, number = holdings.readers.pop(given.reader, (None, 0))
    leg = holdings.legs.get(call_id) if call_id is not None else None
    if leg is None or leg.call.search is None:
        return
    attempt = attempt_of(leg.call, number)
    uri = parse_uri(attempt.proxy or attempt.target.uri)
    if not given.hops or not isinstance(uri, SipUri):
        unreachable(holdings, leg, number, 503, "Host Unknown")
        return
    _found(holdings, leg, number, uri, holdings.outages.in_turn(given.hops, now=now))


def bindings_read(holdings: Holdings, given: BindingsRead, *, now: float) -> None:
    """What is bound to an address of record that was dialed."""
    call_id, number = holdings.readers.pop(given.reader, (None, 0))
    leg = holdings.legs.get(call_id) if call_id is not None else None
    if leg is None or leg.call.search is None:
        return
    if given.bindings is None:
        unreachable(holdings, leg, number, 503, "Store Away")
    else:
        alive = [each for each in given.bindings if each.expires_at > now]
        found_contacts(holdings, leg, number, alive)


def _found(holdings: Holdings, leg: Leg, number: int, uri: SipUri, hops: Sequence[Hop]) -> None:
    """The target, or the proxy that it is to be asked by, is at the first of these; the others are for when nobody answers there (RFC 3263 §4.3)."""
    # Over TLS it is the host of the URI that the far end has to prove to be, wherever the DNS has led (RFC 5922 §4).
    proxy = holdings.settings.outbound_proxy
    host = uri.host if proxy is None else proxy.host
    flows = [flow for hop in hops if (flow := flow_towards(holdings, hop, host)) is not None]
    if not flows:
        _unreached(holdings, leg, number, hops[0].transport)
        return
    attempt = attempt_of(leg.call, number)
    routes = tuple(route_of(each) for each in (proxy, uri if attempt.proxy else None) if each is not None)
    asked = attempt.target.uri if attempt.proxy else str(uri)
    place = Place(asked, flows[0], routes, tuple(flows[1:]))
    holdings.errands.append((leg.call.id, Located(number, (place,))))


def route_of(proxy: SipUri) -> str:
    """The Route value of a proxy, which may not have said of itself how it routes: as any does today (§16.12)."""
    return f"<{proxy if proxy.is_lr else proxy._replace(params=(*proxy.params, ('lr', None)))}>"


def _wanted(holdings: Holdings, uri: SipUri) -> Wanted:
    """What to look for: the outbound proxy, where there is one, by TLS if the target asks for that."""
    return wanted_of(holdings.settings.outbound_proxy or uri, secure=uri.scheme == "sips")


def _unreached(holdings: Holdings, leg: Leg, number: int, transport: str) -> None:
    unreachable(holdings, leg, number, 503, f"No {transport.upper()} Listener Reaches That Address")


def found_contacts(holdings: Holdings, leg: Leg, number: int, bindings: Iterable[Binding]) -> None:
    """The target is an address of record of ours: its contacts, the preferred ones first, each over its own flow.

    Who was asked for by `sips:` is reached by a SIPS contact and TLS, or not at all (RFC 5630 §5.4); the same goes for a
    contact that says so itself.
    """
    secure = is_sips(attempt_of(leg.call, number).target.uri)
    held = [
        (each, flow)
        for each in sorted(bindings, key=lambda each: (each.q, each.expires_at), reverse=True)
        if (flow := held_flow(holdings, each)) is not None
    ]
    usable = [(each, flow) for each, flow in held if (flow.secure if is_sips(each.contact) else not secure)]
    places = places_of(usable)
    if places:
        holdings.errands.append((leg.call.id, Located(number, places)))
    else:
        unreachable(holdings, leg, number, 480, "No Contact To Be Reached By TLS" if held else "Not Registered")


def places_of(held: Iterable[tuple[Binding, Flow]]) -> tuple[Place, ...]:
    """One place for each phone. The further flows of one (RFC 5626 §5.3) are what is left should the first one fail; of
    equal preference the first is the one that was registered last."""
    phones: dict[object, list[Place]] = {}
    for each, flow in held:
        phone = each.instance if each.instance is not None and each.reg_id is not None else (each.contact, flow)
        phones.setdefault(phone, []).append(Place(each.contact, flow, each.path))
    return tuple(replace(first, others=tuple(others)) for first, *others in phones.values())


def held_flow(holdings: Holdings, binding: Binding) -> Flow | None:
    """The flow of a binding, and who holds it; None where nobody does any more. What an earlier process of ours held over
    UDP is ours again."""
    settings = holdings.settings
    if not settings.clustered or binding.node.rpartition(":")[0] == settings.node_id:
        return binding.flow if binding.flow.listener in settings.listeners else None
    return binding.flow._replace(node=binding.node)


def registered(holdings: Holdings, uri: SipUri) -> AddressOfRecord | None:
    """The address of record that this URI is, if it is one of ours: at one of our domains or, where none are named, at our
    own address or with the name of one of our users."""
    aor = address_of_record(str(uri))
    if aor is None:
        return None
    host = uri.host.lower().rstrip(".")
    if holdings.settings.domains:
        return aor if host in holdings.settings.domains else None
    if uri.port is None and holdings.registrar.user_of(aor) is not None:
        return aor
    own = f"{host}:{uri.port or default_port(transport_of(wanted_of(uri)))}"
    return aor if any(listener.sent_by == own for listener in holdings.settings.listeners.values()) else None


def unreachable(holdings: Holdings, leg: Leg, number: int, code: int, reason: str) -> None:
    holdings.errands.append((leg.call.id, InviteFailed(number, code, reason, "unreachable")))
