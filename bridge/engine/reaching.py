"""How a registered phone is reached: from its bindings to flows and routes (§16.6, RFC 3327 §5.4).

For whoever has asked for the bindings of an address of record (`ReadBindings`) and wants to send them an INVITE.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from bridge.sip.flow import Flow
from bridge.sip.headers import parse_name_addr
from bridge.sip.registrar import Binding, alive
from bridge.sip.uri import SipUri, parse_uri

_DEFAULT_PORT = 5060


@dataclass(frozen=True, slots=True)
class Reachable:
    """One phone that can be called now."""

    uri: str  # the Request-URI: its Contact
    route: tuple[str, ...]  # Route values, the first one next to us
    flow: Flow  # where the INVITE goes
    q: float


def reachable(
    bindings: Iterable[Binding], *, owner: str, listeners: Container[str], now: float
) -> tuple[Reachable, ...]:
    """Those bindings that are alive and within our reach, the preferred ones first.

    `owner` is this process ("node_id:incarnation") and `listeners` the names of ours. A connection belongs to the process
    that has accepted it: one that another process has, or that died with one, leads to nobody from here.
    """
    found = []
    for binding in alive(bindings, now=now):
        flow = binding.flow
        if flow.listener in listeners and (binding.node == owner or not flow.reliable):
            found.append(Reachable(binding.contact, binding.path, _next_hop(binding), binding.q))
    return tuple(found)


def _next_hop(binding: Binding) -> Flow:
    """The first proxy of the Path, or the Contact, where that is an address that can be sent to; else the way it came.

    Behind a NAT, on a connection, and where a name stands, nothing but the flow is sure to lead there.
    """
    came = binding.flow
    if came.reliable or (binding.received is not None and not binding.path):
        return came
    written = parse_name_addr(binding.path[0]) if binding.path else None
    uri = parse_uri(written.uri if written is not None else binding.contact)
    if not isinstance(uri, SipUri):
        return came
    host = uri.host.strip("[]")
    try:
        same_kind = ip_address(host).version == ip_address(came.host).version
    except ValueError:
        return came
    return came._replace(host=host, port=uri.port or _DEFAULT_PORT) if same_kind else came
