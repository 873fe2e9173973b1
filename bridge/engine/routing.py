"""Which application answers for a call, and which way a request of ours leaves.

Destinations are IP addresses here: within a dialog, a peer that names a host is reached the way its own message came. Where
names are looked up is `locating`.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from bridge.calls.streams import is_behind_nat
from bridge.engine.settings import Application, Match
from bridge.sip.dialog import Dialog
from bridge.sip.flow import Flow, default_port
from bridge.sip.headers import NameAddr, parse_name_addr
from bridge.sip.uri import SipUri, TelUri, parse_uri


def application_for(
    request_uri: str, applications: Iterable[Application], *, domains: frozenset[str] = frozenset()
) -> Application | None:
    """The first application that takes a call to this Request-URI; None for a host that is not among our `domains`.

    No domains mean any: whoever reaches us means us.
    """
    uri = parse_uri(request_uri)
    user: str | None = None
    host: str | None = None
    if isinstance(uri, SipUri):
        user, host = uri.user, uri.host.lower()
    elif isinstance(uri, TelUri):
        user = uri.number
    if domains and host is not None and host not in domains:
        return None
    return next((each for each in applications if _takes(each.match, user or "", host or "")), None)


def _takes(match: Match, user: str, host: str) -> bool:
    if match.domains and host not in match.domains:
        return False
    if not match.users or user in match.users:
        return True
    return any(pattern.endswith("*") and user.startswith(pattern[:-1]) for pattern in match.users)


def next_hop(dialog: Dialog, *, via_host: str) -> Flow:
    """Where a request within the dialog goes: by the connection its last message came by, where there is one; else to
    its first route, or the remote target (§12.2.1.1, §8.1.2).

    A target behind a NAT, one that names a host and one of the other IP version are reached the way their messages came.
    """
    return dialog.flow if dialog.flow.reliable else _towards_target(dialog, via_host)


def without_connection(dialog: Dialog, *, via_host: str) -> Flow | None:
    """Where the same goes by a new connection, should that one be lost; None: nowhere else."""
    if not dialog.flow.reliable:
        return None
    found = _towards_target(dialog, via_host)
    return None if found == dialog.flow else found


def _towards_target(dialog: Dialog, via_host: str) -> Flow:
    came = dialog.flow
    address = parse_name_addr(dialog.route_set[0]) if dialog.route_set else NameAddr(None, dialog.remote_target)
    uri = parse_uri(address.uri) if address is not None else None
    if not isinstance(uri, SipUri):
        return came
    host = uri.host.strip("[]")
    port = uri.port or default_port(came.transport)
    if host == came.host:  # most of them: nothing to find out
        return came._replace(port=port, name=came.name or _far_end(came, host, port))
    try:
        if ip_address(host).version != ip_address(came.host).version:
            return came
    except ValueError:
        return came
    if not dialog.route_set and is_behind_nat(host, came.host, via_host=via_host):
        return came
    return came._replace(host=host, port=port, name=_far_end(came, host, port))


def _far_end(came: Flow, host: str, port: int) -> str:
    """Who has to be at this address over TLS. Where the connection is that very one, it is used as it is."""
    return host if came.secure and (host, port) != (came.host, came.port) else ""
