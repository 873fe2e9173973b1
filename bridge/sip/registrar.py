"""What a registrar makes of a REGISTER: §10.3 steps 5 to 8, with Path (RFC 3327) and outbound (RFC 5626 §6).

A REGISTER and the bindings there are go in, the bindings there shall be come out, or the refusal; all of it or nothing.
Refuses to know who may register (steps 3 and 4 are the digest's and its caller's) and where bindings are kept.

A contact behind a NAT cannot be reached by its URI: the flow its REGISTER came by is part of the binding, and is what
reaches it, so no flow token is needed. GRUU (RFC 5627) is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, Final, Literal, NewType, TypeAlias

from bridge.sip.endpoint import same_host
from bridge.sip.flow import Flow, default_port
from bridge.sip.grammar import is_number, print_parameters, quote, unescape
from bridge.sip.headers import Line, Malformed, NameAddr, Star, contacts, option_tags, parse_name_addr
from bridge.sip.message import Request
from bridge.sip.uri import SipUri, parse_uri
from bridge.sip.user_agent import Refused

AddressOfRecord = NewType("AddressOfRecord", str)  # "sip:alice@example.com", as `address_of_record` writes it

AOR_MAX_BYTES: Final = 255

_EXPIRES_MALFORMED_S = 3600  # what an illegible expiry means (§20.10)
_TEXT_MAX = 4096  # characters that one binding may keep: whoever may register must not fill the store with it
_USER_AGENT_MAX = 256


@dataclass(frozen=True, slots=True)
class Binding:
    """One way to reach an address of record."""

    contact: str  # a SIP or SIPS URI as written
    q: float  # preference, 0 to 1
    expires_at: float  # seconds UTC
    flow: Flow  # the way its REGISTER came
    node: str  # whose listener that is: "node_id:incarnation"
    call_id: str
    cseq: int
    path: tuple[str, ...] = ()  # Path values, the first one next to us: the route to the contact
    instance: str | None = None  # `+sip.instance`, without quotes and brackets
    reg_id: int | None = None
    user_agent: str | None = None
    received: str | None = None  # `host:port` it came from, where Via says otherwise: a NAT is between

    def to_data(self) -> dict[str, Any]:
        """Plain data for the store."""
        data: dict[str, Any] = {
            "contact": self.contact,
            "q": self.q,
            "expires_ms": round(self.expires_at * 1000),
            "flow": list(self.flow[:4]),
            "node": self.node,
            "call_id": self.call_id,
            "cseq": self.cseq,
        }
        optional = {
            "path": list(self.path) or None,
            "instance": self.instance,
            "reg_id": self.reg_id,
            "user_agent": self.user_agent,
            "received": self.received,
            "far_end": self.flow.name or None,
        }
        return data | {name: value for name, value in optional.items() if value is not None}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Binding:
        """The inverse. Raises KeyError, TypeError or ValueError for what is none; unknown fields are ignored."""
        transport, listener, host, port = data["flow"]
        return cls(
            contact=data["contact"],
            q=data["q"],
            expires_at=data["expires_ms"] / 1000,
            flow=Flow(transport, listener, host, port, name=data.get("far_end", "")),
            node=data["node"],
            call_id=data["call_id"],
            cseq=data["cseq"],
            path=tuple(data.get("path", ())),
            instance=data.get("instance"),
            reg_id=data.get("reg_id"),
            user_agent=data.get("user_agent"),
            received=data.get("received"),
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator allows."""

    expires_default_s: int = 3600  # for contacts that ask for nothing
    expires_min_s: int = 60  # less gets 423; at most an hour (§10.3)
    expires_max_s: int = 7200  # more is shortened
    bindings_max: int = 10  # of one address of record


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one binding."""

    kind: Literal["created", "refreshed", "removed", "expired"]
    binding: Binding  # as it is now, or as it was last


@dataclass(frozen=True, slots=True)
class Registered:
    """The bindings after the request, and what changed; nothing did for a request without a Contact."""

    bindings: tuple[Binding, ...]
    changes: tuple[Change, ...] = ()


Registration: TypeAlias = Registered | Refused

_TOO_MANY = Refused(503, "Too Many Contacts")  # without Retry-After, which would silence all phones behind a proxy


def address_of_record(uri: str) -> AddressOfRecord | None:
    """The canonical form of a URI as an index of bindings (§10.3 step 5); None for what cannot be one.

    Scheme and port are no part of it: `sips:` and a port say how a phone reaches us, not whom it stands for.
    """
    parsed = parse_uri(uri)
    if not isinstance(parsed, SipUri) or not parsed.user:
        return None
    user = unescape(parsed.user)
    if " " in user or not user.isprintable():
        return None  # no white space, no bytes that are no text: it will be shown, and stand in keys
    canonical = f"sip:{user}@{parsed.host.lower().rstrip('.')}"
    return AddressOfRecord(canonical) if len(canonical.encode()) <= AOR_MAX_BYTES else None


def alive(bindings: Iterable[Binding], *, now: float) -> tuple[Binding, ...]:
    """Those that have not expired, the preferred ones first."""
    return tuple(sorted((each for each in bindings if each.expires_at > now), key=lambda each: -each.q))


def expire(bindings: Iterable[Binding], *, now: float) -> Registered:
    """What time does to bindings."""
    given = tuple(bindings)
    over = tuple(Change("expired", each) for each in given if each.expires_at <= now)
    return Registered(tuple(each for each in given if each.expires_at > now), over)


def remove_all(bindings: Iterable[Binding], *, now: float) -> Registered:
    """What an operator's word does to them."""
    kept = expire(bindings, now=now)
    return Registered((), (*kept.changes, *(Change("removed", each) for each in kept.bindings)))


def register(
    request: Request, bindings: Sequence[Binding], *, flow: Flow, node: str, rules: Rules, now: float
) -> Registration:
    """What this REGISTER makes of the bindings of its address of record (§10.3 steps 6 and 7)."""
    wanted = contacts(request)
    if isinstance(wanted, Malformed):
        return Refused(400, wanted.reason)
    kept = expire(bindings, now=now)
    if isinstance(wanted, Star):
        return _remove_all(request, kept)
    if not wanted:
        return kept
    if len(wanted) > rules.bindings_max:
        return _TOO_MANY
    header = request.headers.get("Expires")
    refused = _refused_flow(request, [each for each in wanted if _expires(each, header, rules)])
    if refused is not None:
        return refused
    found, changes = list(kept.bindings), list(kept.changes)
    came = _Source.of(request, flow, node)
    for address in wanted:
        expires_s = _expires(address, header, rules)
        if 0 < expires_s < min(rules.expires_min_s, _EXPIRES_MALFORMED_S):
            return Refused(423, "Interval Too Brief", (("Min-Expires", str(rules.expires_min_s)),))
        contact = parse_uri(address.uri)
        if not isinstance(contact, SipUri):
            return Refused(400, "Contact Is No SIP URI")
        made = came.binding(address, expires_at=now + expires_s)
        if _size(made) > _TEXT_MAX:
            return Refused(400, "Contact Too Long")
        at = _index(found, contact, made)
        if at is not None and found[at] in kept.bindings and _is_stale(found[at], request):
            return Refused(500, "Stale CSeq")
        if expires_s == 0:
            if at is not None:
                changes.append(Change("removed", found.pop(at)))
        elif at is None:
            found.append(made)
            changes.append(Change("created", made))
        else:
            found[at] = made
            changes.append(Change("refreshed", made))
    if len(found) > max(rules.bindings_max, len(kept.bindings)):
        return _TOO_MANY
    return Registered(tuple(found), tuple(changes))


def answer_lines(request: Request, registered: Registered, *, now: float) -> list[Line]:
    """The header lines of the 200: every binding there is (§10.3 step 8), and the Path as it came (RFC 3327 §5.3)."""
    lines: list[Line] = [("Contact", _contact(each, now)) for each in alive(registered.bindings, now=now)]
    if _keeps_path(request):
        lines += [("Path", value) for value in request.headers.lines("Path")]
    wanted = contacts(request)
    if isinstance(wanted, tuple) and any(_is_flow(request, each) for each in wanted):
        lines.append(("Require", "outbound"))
    lines.append(("Date", formatdate(now, usegmt=True)))
    return lines


@dataclass(frozen=True, slots=True)
class _Source:
    """What all bindings of one REGISTER have in common."""

    like: Binding

    @classmethod
    def of(cls, request: Request, flow: Flow, node: str) -> _Source:
        via = request.via
        user_agent = request.headers.get("User-Agent")
        source = _host_port(flow.host, flow.port)
        # Not by `received`: who asks for `rport` gets that too, NAT or not.
        behind_nat = not same_host(via.host, flow.host) or (via.port or default_port(flow.transport)) != flow.port
        return cls(
            Binding(
                contact="",
                q=1.0,
                expires_at=0.0,
                flow=flow,
                node=node,
                call_id=request.call_id,
                cseq=request.cseq.number,
                path=tuple(request.headers.values("Path")) if _keeps_path(request) else (),
                user_agent=user_agent[:_USER_AGENT_MAX] if user_agent is not None else None,
                received=source if behind_nat else None,
            )
        )

    def binding(self, address: NameAddr, *, expires_at: float) -> Binding:
        instance = address.param("+sip.instance")
        return replace(
            self.like,
            contact=address.uri,
            q=_preference(address.param("q")),
            expires_at=expires_at,
            instance=instance.strip("<>") if instance else None,
            reg_id=_reg_id(address),
        )


def _remove_all(request: Request, kept: Registered) -> Registration:
    """`Contact: *` (§10.2.2): alone, and with `Expires: 0`."""
    expires = request.headers.get("Expires")
    if expires is None or not is_number(expires) or int(expires) != 0:
        return Refused(400, "Contact * Wants Expires 0")
    if any(_is_stale(each, request) for each in kept.bindings):
        return Refused(500, "Stale CSeq")
    return Registered((), (*kept.changes, *(Change("removed", each) for each in kept.bindings)))


def _expires(address: NameAddr, header: str | None, rules: Rules) -> int:
    """How long this contact shall be bound, in seconds: its own word, the header's, or ours (§10.2.1.1)."""
    said = address.param("expires")
    written = header if said is None else said
    if written is None:
        return min(rules.expires_default_s, rules.expires_max_s)
    wanted = int(written) if is_number(written) else _EXPIRES_MALFORMED_S
    return min(wanted, rules.expires_max_s)


def _reg_id(address: NameAddr) -> int | None:
    """Which of its flows a phone says that this is (RFC 5626 §4.2): from 1."""
    written = address.param("reg-id")
    number = int(written) if written is not None and len(written) <= 10 and is_number(written) else 0
    return number if 0 < number < 2**31 else None


def _is_flow(request: Request, address: NameAddr) -> bool:
    """Whether this contact asks for `outbound`."""
    asks = "outbound" in option_tags(request, "Supported") or "outbound" in option_tags(request, "Require")
    return asks and bool(address.param("+sip.instance")) and _reg_id(address) is not None


def _refused_flow(request: Request, wanted: Sequence[NameAddr]) -> Refused | None:
    """What RFC 5626 §6 has against the contacts that shall be bound. Where there is no other Via we are the first hop
    ourselves; otherwise the proxy next to the phone has to have said that it keeps the flow: by `ob`, in the last Path."""
    if not any(_is_flow(request, each) for each in wanted):
        return None
    if len(wanted) > 1:
        return Refused(400, "One Contact With reg-id At A Time")
    if len(request.headers.values("Via")) == 1:
        return None
    path = request.headers.values("Path") if _keeps_path(request) else []
    edge = parse_name_addr(path[-1]) if path else None
    uri = parse_uri(edge.uri) if edge is not None else None
    keeps_it = isinstance(uri, SipUri) and any(name.lower() == "ob" for name, _ in uri.params)
    return None if keeps_it else Refused(439, "First Hop Lacks Outbound Support")


def _index(found: Sequence[Binding], contact: SipUri, made: Binding) -> int | None:
    """Which binding this contact renews: the one of its instance and reg-id (RFC 5626 §6), or of its URI (§19.1.4). Two
    flows of one phone may well have the same URI."""
    is_flow = made.instance is not None and made.reg_id is not None
    if is_flow:
        flows = (at for at, each in enumerate(found) if (each.instance, each.reg_id) == (made.instance, made.reg_id))
        renewed = next(flows, None)
        if renewed is not None:
            return renewed
    for at, each in enumerate(found):
        if is_flow and each.instance is not None and each.reg_id is not None:
            continue
        if each.contact == made.contact:
            return at
        known = parse_uri(each.contact)
        if isinstance(known, SipUri) and known.equivalent(contact):
            return at
    return None


def _is_stale(known: Binding, request: Request) -> bool:
    """Whether this request is older than what it would change, or the same (§10.3 step 7)."""
    return known.call_id == request.call_id and request.cseq.number <= known.cseq


def _size(made: Binding) -> int:
    return len(made.contact) + len(made.call_id) + len(made.instance or "") + sum(len(each) for each in made.path)


def _preference(written: str | None) -> float:
    """The q of a contact; one that is illegible is none."""
    try:
        q = float(written) if written is not None and len(written) <= 5 else 1.0
    except ValueError:
        return 1.0
    return q if 0.0 <= q <= 1.0 else 1.0


def _keeps_path(request: Request) -> bool:
    """Whether the phone knows what a Path is; otherwise it is left out, and the flow alone leads to it."""
    return "Path" in request.headers and "path" in option_tags(request, "Supported")


def _contact(binding: Binding, now: float) -> str:
    params: list[tuple[str, str | None]] = [("expires", str(max(1, round(binding.expires_at - now))))]
    if binding.q != 1.0:
        params.append(("q", f"{binding.q:g}"))
    if binding.instance is not None:
        params.append(("+sip.instance", quote(f"<{binding.instance}>")))
    if binding.reg_id is not None:
        params.append(("reg-id", str(binding.reg_id)))
    return f"<{binding.contact}>{print_parameters(tuple(params))}"


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
