"""Requests outside of dialogs for whom we serve: MESSAGE, SUBSCRIBE, OPTIONS, whatever there is but INVITE and REGISTER, for an
address of record at one of `sip.domains` goes on to the phone that is bound to it, as by a proxy without state (§16.11).

To the one that is preferred: what is not remembered cannot be forked. Its answer comes back by the Vias, and who hears none asks again.
Refuses to know what is asked, and domains of others: nobody is relayed to.
"""

from __future__ import annotations

from bridge.engine import authenticating, proxying
from bridge.engine.holdings import Holdings
from bridge.engine.locating import held_flow, places_of
from bridge.engine.registrations import BindingsRead, ReadBindings
from bridge.sip import proxy
from bridge.sip.endpoint import RequestArrived
from bridge.sip.registrar import Binding, address_of_record
from bridge.sip.target_set import Target
from bridge.sip.uri import SipUri, is_sips, parse_uri
from bridge.sip.user_agent import Refused

WAITING_MOST = 1000  # for what the store says of bindings; those beyond are told to come again
_OWN = frozenset({"INVITE", "REGISTER", "ACK", "CANCEL"})  # whose way is another


def serves(holdings: Holdings, arrived: RequestArrived, *, now: float) -> bool:
    """Whether this is for somebody at a domain of ours; then it is on its way, or has been answered."""
    request, domains = arrived.request, holdings.settings.domains
    if not domains or request.method in _OWN or request.to_tag is not None:
        return False
    uri = parse_uri(request.uri)
    if not isinstance(uri, SipUri) or uri.user is None or uri.host.lower().rstrip(".") not in domains:
        return False
    aor = address_of_record(request.uri)
    if aor is None:
        return False
    sender = authenticating.caller(holdings, arrived, now=now)
    if sender is None:
        return True
    if sender.username is None and not _may_come(holdings, arrived.flow.host):
        authenticating.answer(
            holdings, arrived, 403, now=now
        )  # the same whoever there is: phones would tell who is registered
        return True
    made = proxy.admit(request, holdings.proxy, came_by=proxying.interface(holdings, arrived.flow))
    if isinstance(made, Refused):
        authenticating.answer(holdings, arrived, made.status, made.headers, made.reason, now=now)
    elif holdings.is_in_limbo(now) or len(holdings.serving) >= WAITING_MOST:
        authenticating.answer(holdings, arrived, 503, (("Retry-After", "10"),), now=now)
    else:
        holdings.ticket += 1
        unknown = 404 if sender.username is not None and holdings.registrar.user_of(aor) is None else 480
        holdings.serving[holdings.ticket] = (arrived, made, unknown)
        holdings.out.append(ReadBindings(holdings.ticket, aor))
    return True


def bindings_read(holdings: Holdings, given: BindingsRead, *, now: float) -> bool:
    """What is bound to whom a request is for; False: it is another's who asks."""
    arrived, made, unknown = holdings.serving.pop(given.reader, (None, None, 0))
    if arrived is None or made is None:
        return False
    if given.bindings is None:
        authenticating.answer(holdings, arrived, 503, (("Retry-After", "10"),), now=now)
        return True
    secure = is_sips(arrived.request.uri)
    alive = [each for each in given.bindings if each.expires_at > now]
    held = [
        (each, flow) for each in sorted(alive, key=_preference, reverse=True) if (flow := held_flow(holdings, each))
    ]
    # RFC 5630 §5.4: who was asked for by `sips:` is reached by a SIPS contact and TLS, or not at all.
    places = places_of((each, flow) for each, flow in held if (flow.secure if is_sips(each.contact) else not secure))
    if not places or places[0].flow is None:
        authenticating.answer(holdings, arrived, unknown, now=now)
        return True
    target = Target(places[0].uri, path=places[0].routes)
    proxying.send_on(holdings, made, target, arrived.flow, places[0].flow)
    holdings.endpoint.abandon(arrived.key)  # its repetitions go the same way
    return True


def _may_come(holdings: Holdings, host: str) -> bool:
    """Whether strangers from here may reach our phones past every application: from trunks and trusted networks, or where the
    operator has nobody proved."""
    anybody = holdings.settings.registrar.authenticate == "none"
    return anybody or holdings.admission.trusts(host) or holdings.trunks.at(host) is not None


def _preference(binding: Binding) -> tuple[float, float]:
    return binding.q, binding.expires_at
