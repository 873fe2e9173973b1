"""What a proxy does with a request on its way: RFC 3261 §16.3, §16.4, §16.6 and §16.11, with RFC 5393 and RFC 5658.

Functions over messages, no state: whether a request may pass, what its Route header fields mean for us, the copy that
leaves for one target, and a response without our Via. What becomes of the answers is `response_context`'s affair;
targets, name resolution, flows and tokens are its caller's. Credentials (§16.3 step 6) are `authenticator`'s.

A header field that the RFC does not have a proxy change leaves as it came, and is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

from bridge.sip.dialog import MAX_FORWARDS
from bridge.sip.flow import default_port
from bridge.sip.grammar import REASON_PHRASES, first_of_list
from bridge.sip.headers import Headers, NameAddr, max_forwards, option_tags, parse_name_addr, parse_via
from bridge.sip.message import Request, Response
from bridge.sip.target_set import Target
from bridge.sip.transaction import MAGIC_COOKIE
from bridge.sip.uri import SipUri, is_sips, parse_uri
from bridge.sip.user_agent import DIALOG_MAKING, Refused, via_value

MAX_ROUTES: Final = 128  # of one request; more get 400
MAX_BREADTH: Final = 60  # of a request that does not say (RFC 5393 §5.3.1)
_MARK: Final = "dialog"  # a parameter of our Record-Route's URI
_SCHEMES: Final = frozenset({"sip", "sips"})
_WEB_SOCKETS: Final = {"ws": "ws", "wss": "ws"}  # how a URI spells them (RFC 7118 §5.2.1)


class Interface(NamedTuple):
    """One of our listeners, as its peers name it."""

    transport: str  # "udp", "tcp", "tls", "ws", "wss"
    host: str  # IP address or name; IPv6 in its brackets
    port: int

    @classmethod
    def of(cls, transport: str, sent_by: str) -> Interface:
        """The one whose Via says `sent_by`, the transport's own port where that names none (§18.1.1): "192.0.2.10:5070", "[2001:db8::1]"."""
        host, _, port = sent_by.rpartition(":")
        if not host or port.endswith("]"):
            return cls(transport, sent_by, default_port(transport))
        return cls(transport, host, int(port))

    @property
    def sent_by(self) -> str:
        """What our Via says."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this proxy is: what a URI means when it means us."""

    interfaces: frozenset[Interface]
    domains: frozenset[str] = frozenset()  # it is responsible for, lower case
    extensions: frozenset[str] = frozenset()  # that Proxy-Require may ask for: option tags, lower case

    def is_meant(self, uri: SipUri) -> bool:
        """Whether `uri` leads to one of our interfaces, or to a domain of ours without a port of somebody else."""
        port = _port(uri)
        if uri.host.lower() in self.domains:
            return uri.port is None or any(each.port == port for each in self.interfaces)
        return any(each.host.lower() == uri.host.lower() and each.port == port for each in self.interfaces)

    def is_sent_by(self, sent_by: str) -> bool:
        """Whether a Via with this sent-by is one of ours."""
        return any(each.sent_by.lower() == sent_by.lower() for each in self.interfaces)

    def is_responsible(self, host: str) -> bool:
        """Whether this host is ours, whatever its port: a domain, or an address that we listen at."""
        lowered = host.lower()
        return lowered in self.domains or any(each.host.lower() == lowered for each in self.interfaces)


class Admitted(NamedTuple):
    """A request that may pass."""

    request: Request  # its Route header fields seen to (§16.4); the one that came is as it was
    loop: str  # what `branch` marks its copies with
    fixed: Target | None  # where it has to go (§16.5); None: this domain is ours, a location service says where


def admit(request: Request, identity: Identity, *, came_by: Interface) -> Admitted | Refused:
    """Check a request (§16.3) and see to its Route header fields (§16.4). A refused ACK is dropped: nothing answers one.

    An OPTIONS or REGISTER for ourselves with `Max-Forwards: 0` is a user agent's: its caller takes it before this.
    """
    if request.uri.partition(":")[0].lower() not in _SCHEMES:
        return _refused(416)
    if max_forwards(request) == 0:
        return _refused(483)
    loop = loop_mark(request)
    if _is_loop(request, identity, loop):
        return _refused(482)
    if "Proxy-Require" in request.headers:
        unknown = [tag for tag in option_tags(request, "Proxy-Require") if tag not in identity.extensions]
        if unknown:
            return Refused(420, REASON_PHRASES[420], (("Unsupported", ", ".join(unknown)),))
    routes = request.headers.values("Route") if "Route" in request.headers else []
    if len(routes) > MAX_ROUTES or any(parse_name_addr(each) is None for each in routes):
        return Refused(400, "Malformed Route")
    seen_to = _see_to_routes(request, identity, routes, came_by)
    return Admitted(seen_to, loop, _fixed_target(seen_to, identity))


def loop_mark(request: Request) -> str:
    """What two passes of one request have in common when nothing has changed that decides where it goes (RFC 5393 §4.2).

    A spiral comes back with another Request-URI or other Routes, so with another mark. The method is left out, as CANCEL
    and ACK follow their INVITE; so are the Vias, which differ at each pass, whatever §16.6 step 8 says.
    """
    headers = request.headers
    decisive = [request.uri, request.call_id, request.from_tag or "", str(request.cseq.number)]
    for name in ("Route", "Proxy-Require", "Proxy-Authorization"):
        if name in headers:
            decisive += [name, *headers.lines(name)]
    return sha256("\n".join(decisive).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def branch(token: str, loop: str) -> str:
    """The branch of a copy (§16.6 step 8): `token` makes it unique, and comes from the caller."""
    return f"{MAGIC_COOKIE}-{token}.{loop}"


def stateless_branch(admitted: Admitted) -> str:
    """The branch for a request of which nothing is remembered: the same for each repetition, and for its CANCEL (§16.11)."""
    via = admitted.request.via
    same = f"{via.sent_by}\n{via.branch}"
    token = sha256(same.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return branch(token, admitted.loop)


def next_hop(admitted: Admitted, target: Target) -> str:
    """The URI that says where the copy for `target` is sent (§16.6 step 7), for RFC 3263 to resolve.

    With a SIPS Request-URI it is one too, whatever a Route says: TLS on each hop.
    """
    uri = _request_uri(target.uri)
    routes = _route_set(admitted.request, target)
    hop = _route_uri(routes[0]) if routes else uri
    return f"sips:{hop[4:]}" if is_sips(uri) and hop[:4].lower() == "sip:" else hop


def forward(
    admitted: Admitted,
    target: Target,
    *,
    branch: str,
    came_by: Interface,
    leaves_by: Interface,
    record_route: bool,
    mark: str = "",
    breadth: int | None = None,
) -> Request:
    """The copy that goes to `target` (§16.6 steps 1 to 9).

    `record_route`: stay on the way of the dialog that it may make. With two Record-Routes where it comes and leaves by
    different interfaces, so that no response has to be rewritten (RFC 5658 §3.4). `mark`: what its URI says of the dialog, for
    `mark_of` to read. `breadth`: how many copies may be made of this one (RFC 5393 §5.3).
    """
    given = admitted.request
    headers = given.headers.copy()
    uri = _request_uri(target.uri)
    hops = max_forwards(given)
    if hops is None:
        headers.add("Max-Forwards", str(MAX_FORWARDS))
    else:
        headers.set("Max-Forwards", str(hops - 1))
    if breadth is not None:
        headers.set("Max-Breadth", str(breadth))
    if record_route and given.method in DIALOG_MAKING:
        secure = is_sips(next_hop(admitted, target))
        headers.prepend("Record-Route", _record_route(came_by, mark, secure=is_sips(given.uri)))
        if came_by != leaves_by or secure != is_sips(given.uri):
            headers.prepend("Record-Route", _record_route(leaves_by, mark, secure=secure))
    uri = _write_routes(headers, uri, target)
    headers.prepend("Via", via_value(leaves_by.transport, leaves_by.sent_by, branch))
    return Request(given.method, uri, headers, given.body)


def max_breadth(request: Request) -> int:
    """How many copies of it there may be at once, by way of everybody that it passes (RFC 5393 §5.3)."""
    text = (request.headers.get("Max-Breadth") or "").strip()
    return min(int(text), MAX_BREADTH) if text.isascii() and text.isdigit() and len(text) < 6 else MAX_BREADTH


def mark_of(request: Request, identity: Identity) -> str:
    """What `forward` has written into the Record-Route that this request follows, so its first Route; empty: it follows none
    of ours."""
    line = request.headers.get("Route")
    address = None if line is None else parse_name_addr(first_of_list(line)[0])
    uri = None if address is None else parse_uri(address.uri)
    if not isinstance(uri, SipUri) or not _is_own_record_route(uri, identity):
        return ""
    return uri.param(_MARK) or ""


def backward(response: Response, identity: Identity) -> Response | None:
    """The response without our Via (§16.7 step 3, §16.11); the Via that is now on top says where it goes (§18.2.2).

    None: it is to be dropped, for its top Via is not ours, or it is an answer to a request of our own.
    """
    if not identity.is_sent_by(response.via.sent_by):
        return None
    headers = response.headers.copy()
    headers.remove_first("Via")
    if "Via" not in headers:
        return None
    return Response(response.status, response.reason, headers, response.body)


def _refused(status: int) -> Refused:
    return Refused(status, REASON_PHRASES[status])


def _is_loop(request: Request, identity: Identity, loop: str) -> bool:
    ending = f".{loop}"
    for line in request.headers.lines("Via"):
        if ending not in line:  # hardly ever: the rest is spared
            continue
        for value in Headers.of([("Via", line)]).values("Via"):
            via = parse_via(value)
            if via is not None and identity.is_sent_by(via.sent_by) and (via.branch or "").endswith(ending):
                return True
    return False


def _see_to_routes(request: Request, identity: Identity, routes: list[str], came_by: Interface) -> Request:
    """§16.4: undo what a strict router did, take `maddr` off where it names us, and our own Route values."""
    uri = request.uri
    kept = routes
    written = parse_uri(uri)
    if routes and isinstance(written, SipUri) and _is_own_record_route(written, identity):
        uri, kept = _route_uri(routes[-1]), routes[:-1]
        written = parse_uri(uri)
    if isinstance(written, SipUri) and _names_us_by_maddr(written, identity, came_by):
        uri = str(_without_maddr(written))
    # Two of ours follow each other where a dialog crosses from one interface to another one (RFC 5658 §4.2).
    own = 0
    while own < len(kept) and _is_own_route(kept[own], identity):
        own += 1
    kept = kept[own:]
    if uri == request.uri and len(kept) == len(routes):
        return request
    headers = request.headers.copy()
    _set_routes(headers, kept)
    return Request(request.method, uri, headers, request.body)


def _is_own_record_route(uri: SipUri, identity: Identity) -> bool:
    """Whether `_record_route` has written this: such a URI names nobody, so no caller asks for it."""
    return uri.user is None and uri.is_lr and identity.is_meant(uri)


def _is_own_route(value: str, identity: Identity) -> bool:
    uri = parse_uri(_route_uri(value))
    return isinstance(uri, SipUri) and identity.is_meant(uri)


def _names_us_by_maddr(uri: SipUri, identity: Identity, came_by: Interface) -> bool:
    maddr = uri.param("maddr")
    if not maddr or not identity.is_responsible(maddr):
        return False
    return _port(uri) == came_by.port and _transport(uri) == came_by.transport


def _without_maddr(uri: SipUri) -> SipUri:
    """Without it, and without the port and transport that went with it (§16.4)."""
    params = tuple([each for each in uri.params if each[0] not in ("maddr", "transport")])
    return uri._replace(port=None, params=params)


def _fixed_target(request: Request, identity: Identity) -> Target | None:
    """§16.5: a Request-URI with `maddr`, or of a domain that is not ours, is the only target."""
    uri = parse_uri(request.uri)
    if isinstance(uri, SipUri) and not uri.param("maddr") and identity.is_meant(uri):
        return None
    return Target(request.uri)


def _route_set(request: Request, target: Target) -> list[str]:
    there = request.headers.values("Route") if "Route" in request.headers else []
    return [*target.path, *there]


def _write_routes(headers: Headers, uri: str, target: Target) -> str:
    """§16.6 step 6: the path to the target goes first, and a strict router gets what it expects. The Request-URI."""
    for value in reversed(target.path):
        headers.prepend("Route", value)
    values = headers.values("Route") if "Route" in headers else []
    if not values:  # a peer may also have sent an empty line
        return uri
    hop = _route_uri(values[0])
    written = parse_uri(hop)
    if isinstance(written, SipUri) and written.is_lr:
        return uri
    _set_routes(headers, [*values[1:], f"<{uri}>"])
    return hop


def _set_routes(headers: Headers, values: Sequence[str]) -> None:
    if values:
        headers.set("Route", ", ".join(values))
    else:
        headers.remove("Route")


def _route_uri(value: str) -> str:
    address = parse_name_addr(value)
    return value if address is None else address.uri


def _request_uri(written: str) -> str:
    """What of a Contact's URI may be a Request-URI: no headers, no method (§16.6 step 2, §19.1.1)."""
    if "?" not in written and "method" not in written.lower():
        return written
    uri = parse_uri(written)
    if not isinstance(uri, SipUri):
        return written
    return str(uri._replace(params=tuple([each for each in uri.params if each[0] != "method"]), headers=""))


def _record_route(interface: Interface, mark: str, *, secure: bool) -> str:
    transport = _WEB_SOCKETS.get(interface.transport, interface.transport)
    scheme = "sips" if secure else "sip"
    said = f";lr;{_MARK}={mark}" if mark else ";lr"
    if secure and transport == "tls":  # says it already (RFC 5630 §3.1.4)
        return str(NameAddr(None, f"{scheme}:{interface.sent_by}{said}"))
    return str(NameAddr(None, f"{scheme}:{interface.sent_by};transport={transport}{said}"))


def _transport(uri: SipUri) -> str:
    if uri.scheme == "sips":
        return "wss" if uri.transport == "ws" else "tls"
    return uri.transport or "udp"


def _port(uri: SipUri) -> int:
    return uri.port or default_port(_transport(uri))
