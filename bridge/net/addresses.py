"""Which address of this host the world sees, where the configuration does not say."""

from __future__ import annotations

import socket

from bridge.errors import StartError

# Documentation addresses (RFC 5737, RFC 3849): routed like any other, and nothing is sent to them anyway.
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def outward_address(bound: str) -> str:
    """The address a peer would see us under, when we listen on `bound`: that itself, or for `0.0.0.0` and `::` the source
    address the system would choose towards its default route. StartError when there is no such route."""
    if bound not in ("0.0.0.0", "::"):  # noqa: S104 -- compared, not bound
        return bound
    family = socket.AF_INET6 if bound == "::" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((_ELSEWHERE[family], 9))  # a UDP connect sends nothing
        except OSError as error:
            raise StartError(
                f"no address to tell others: {bound} has no route out ({error.strerror}). Give sip.advertise"
            ) from error
        return str(probe.getsockname()[0])


def way_to(host: str, *, from_: str | None = None) -> tuple[str, str]:
    """(the address of ours that packets to `host` bear, the address of `host`). StartError when no way leads there.

    `from_` is our own address where that is to be chosen. Of a name with addresses of both kinds, `localhost` for one,
    the IPv4 one is taken: most SIP servers listen there, and UDP does not tell when nobody does.
    """
    family = socket.AF_UNSPEC if from_ is None else socket.AF_INET6 if ":" in from_ else socket.AF_INET
    try:
        found = socket.getaddrinfo(host, 9, family=family, type=socket.SOCK_DGRAM)
        chosen, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        with socket.socket(chosen, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return from_ or str(probe.getsockname()[0]), str(address[0])
    except OSError as error:
        raise StartError(f"no way to {host}: {error.strerror}") from error


def host_port(host: str, port: int) -> str:
    """Both as SIP and URLs write them: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
