"""A request on its way through the proxy, as bytes: what may pass, what Route means, what leaves (§16.3 to §16.6, §16.11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.proxy import (
    MAX_ROUTES,
    Admitted,
    Identity,
    Interface,
    admit,
    backward,
    branch,
    forward,
    loop_mark,
    mark_of,
    max_breadth,
    next_hop,
    stateless_branch,
)
from bridge.sip.target_set import Target
from bridge.sip.user_agent import Refused
from tests.sip.test_parser_properties import messages, unhurried
from tests.sip.wire import ringing, wire

UDP = Interface("udp", "198.51.100.1", 5060)
TCP = Interface("tcp", "198.51.100.1", 5060)
TLS = Interface("tls", "198.51.100.1", 5061)
WSS = Interface("wss", "198.51.100.1", 443)
US = Identity(frozenset({UDP, TCP, TLS, WSS}), domains=frozenset({"example.com"}), extensions=frozenset({"sec-agree"}))
CALLEE = Target("sip:bob@192.0.2.20:5070")


def request(uri: str = "sip:bob@example.com", *, method: str = "INVITE", **headers: str | None) -> Request:
    changes = {name.replace("_", "-"): value for name, value in headers.items()}
    made = parse(wire(f"{method} {uri} SIP/2.0", {"CSeq": f"1 {method}"} | changes))
    assert isinstance(made, Request), made
    return made


def admitted(given: Request, *, came_by: Interface = UDP, identity: Identity = US) -> Admitted:
    before = given.encode()
    made = admit(given, identity, came_by=came_by)
    assert isinstance(made, Admitted), made
    assert given.encode() == before  # the one that came is still what the server transaction needs
    return made


def passed(
    given: Request,
    target: Target | None = None,
    *,
    came_by: Interface = UDP,
    leaves_by: Interface = UDP,
    record_route: bool = False,
    identity: Identity = US,
    token: str = "t1",
) -> Request:
    """What leaves, read back from its bytes."""
    may = admitted(given, came_by=came_by, identity=identity)
    copy = forward(
        may,
        target or may.fixed or CALLEE,
        branch=branch(token, may.loop),
        came_by=came_by,
        leaves_by=leaves_by,
        record_route=record_route,
    )
    read = parse(copy.encode())
    assert isinstance(read, Request), read
    return read


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (request("tel:+123"), 416),
        (request("http://example.com"), 416),
        (request("SIP:bob@example.com"), None),
        (request("sips:bob@example.com"), None),
        (request(Max_Forwards="0"), 483),
        (request(Max_Forwards="1"), None),
        (request(Max_Forwards=None), None),
        (request(Proxy_Require="sec-agree"), None),
        (request(Require="nobody-knows"), None),  # the user agent server's affair (§16.3)
        (request(Route="sip:nowhere, <broken"), 400),
        (request(Route=", ".join(["<sip:192.0.2.1;lr>"] * MAX_ROUTES)), None),
        (request(Route=", ".join(["<sip:192.0.2.1;lr>"] * (MAX_ROUTES + 1))), 400),
        (request("tel:+123", Max_Forwards="0"), 416),  # the order of §16.3
    ],
)
def test_what_may_pass(given: Request, status: int | None) -> None:
    made = admit(given, US, came_by=UDP)
    assert (made.status if isinstance(made, Refused) else None) == status


def test_an_extension_that_we_lack_is_named() -> None:
    made = admit(request(Proxy_Require="Sec-Agree, foo, BAR"), US, came_by=UDP)
    assert made == Refused(420, "Bad Extension", (("Unsupported", "foo, bar"),))


def test_a_loop_is_a_request_that_comes_back_as_it_left() -> None:
    # A domain that is not ours leads back to us by a mistake in somebody's DNS: nothing has changed but the Vias.
    left = passed(request("sip:bob@example.net"))
    left.headers.prepend("Via", "SIP/2.0/UDP 203.0.113.9;branch=z9hG4bK-other")
    back = parse(left.encode())
    assert isinstance(back, Request)
    made = admit(back, US, came_by=UDP)
    assert isinstance(made, Refused)
    assert made.status == 482
    # In one line with others it is found too.
    vias = ", ".join(back.headers.values("Via"))
    back.headers.set("Via", vias)
    assert isinstance(admit(back, US, came_by=UDP), Refused)


def test_a_spiral_is_none() -> None:
    left = passed(request("sip:bob@example.com"), Target("sip:robert@example.com"))
    again = passed(left, Target("sip:rob@example.com"), token="t2")
    assert again.headers.values("Via")[0] != left.headers.values("Via")[0]
    assert len(again.headers.values("Via")) == 3


def test_the_mark_of_another_node_is_no_loop() -> None:
    given = request("sip:bob@example.net")
    given.headers.prepend("Via", f"SIP/2.0/UDP 203.0.113.9;branch=z9hG4bK-x.{loop_mark(given)}")
    assert isinstance(admit(given, US, came_by=UDP), Admitted)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"Via": "SIP/2.0/TCP 192.0.2.99;branch=z9hG4bK-z"}, True),
        ({"Max-Forwards": "3"}, True),
        ({"To": "<sip:bob@example.com>;tag=b"}, True),  # the ACK of a refusal has it, the INVITE had not
        ({"Route": "<sip:192.0.2.1;lr>"}, False),
        ({"Proxy-Authorization": 'Digest realm="x"'}, False),
        ({"Proxy-Require": "sec-agree"}, False),
        ({"Call-ID": "another"}, False),
        ({"From": "<sip:alice@example.com>;tag=other"}, False),
    ],
)
def test_what_the_mark_is_made_of(change: dict[str, str], same: bool) -> None:
    changed = {name.replace("-", "_"): value for name, value in change.items()}
    assert (loop_mark(request()) == loop_mark(request(**changed))) is same


def test_cancel_and_ack_bear_the_mark_of_their_invite() -> None:
    assert loop_mark(request()) == loop_mark(request(method="CANCEL")) == loop_mark(request(method="ACK"))


@pytest.mark.parametrize(
    ("uri", "route", "leaves"),
    [
        # Nothing of ours in it.
        ("sip:bob@example.net", None, ("sip:bob@example.net", [], "sip:bob@example.net")),
        (
            "sip:bob@example.net",
            "<sip:p1.example.org;lr>",
            ("sip:bob@example.net", ["<sip:p1.example.org;lr>"], "sip:p1.example.org;lr"),
        ),
        # Our own value goes, by address or by domain, one or the two of a double Record-Route.
        ("sip:bob@192.0.2.20", "<sip:198.51.100.1;lr>", ("sip:bob@192.0.2.20", [], "sip:bob@192.0.2.20")),
        ("sip:bob@192.0.2.20", "<sip:example.com;lr>", ("sip:bob@192.0.2.20", [], "sip:bob@192.0.2.20")),
        (
            "sip:bob@192.0.2.20",
            "<sip:198.51.100.1:5060;transport=tcp;lr>, <sip:198.51.100.1:5060;transport=udp;lr>,<sip:192.0.2.7;lr;x=1>",
            ("sip:bob@192.0.2.20", ["<sip:192.0.2.7;lr;x=1>"], "sip:192.0.2.7;lr;x=1"),
        ),
        # Another port of our address is somebody else.
        (
            "sip:bob@192.0.2.20",
            "<sip:198.51.100.1:5099;lr>",
            ("sip:bob@192.0.2.20", ["<sip:198.51.100.1:5099;lr>"], "sip:198.51.100.1:5099;lr"),
        ),
        # A strict router has put our Record-Route into the Request-URI, and the target at the end.
        (
            "sip:198.51.100.1:5060;transport=udp;lr",
            "<sip:bob@192.0.2.20>",
            ("sip:bob@192.0.2.20", [], "sip:bob@192.0.2.20"),
        ),
        (
            "sip:198.51.100.1;lr",
            "<sip:192.0.2.7;lr>, <sip:bob@192.0.2.20>",
            ("sip:bob@192.0.2.20", ["<sip:192.0.2.7;lr>"], "sip:192.0.2.7;lr"),
        ),
        # The next one is a strict router: it finds itself in the Request-URI, and the target at the end of Route.
        ("sip:bob@192.0.2.20", "<sip:192.0.2.7>", ("sip:192.0.2.7", ["<sip:bob@192.0.2.20>"], "sip:192.0.2.7")),
        (
            "sip:bob@192.0.2.20",
            "<sip:198.51.100.1;lr>, <sip:192.0.2.7>, <sip:192.0.2.8;lr>",
            ("sip:192.0.2.7", ["<sip:192.0.2.8;lr>", "<sip:bob@192.0.2.20>"], "sip:192.0.2.7"),
        ),
        # A strict router behind us and one before us.
        (
            "sip:198.51.100.1;lr",
            "<sip:192.0.2.7>, <sip:bob@192.0.2.20>",
            ("sip:192.0.2.7", ["<sip:bob@192.0.2.20>"], "sip:192.0.2.7"),
        ),
        # Whoever is called by a name at our address is no Record-Route.
        (
            "sip:bob@198.51.100.1;lr",
            "<sip:192.0.2.7;lr>",
            ("sip:bob@192.0.2.20:5070", ["<sip:192.0.2.7;lr>"], "sip:192.0.2.7;lr"),
        ),
        # maddr is ours and the request came as it says: off with it. Any other is where it goes.
        ("sip:bob@example.net;maddr=198.51.100.1", None, ("sip:bob@example.net", [], "sip:bob@example.net")),
        (
            "sip:bob@example.net:5060;maddr=198.51.100.1;transport=udp;x=y",
            None,
            ("sip:bob@example.net;x=y", [], "sip:bob@example.net;x=y"),
        ),
        (
            "sip:bob@example.net:5090;maddr=198.51.100.1",
            None,
            ("sip:bob@example.net:5090;maddr=198.51.100.1", [], "sip:bob@example.net:5090;maddr=198.51.100.1"),
        ),
        (
            "sip:bob@example.com;maddr=192.0.2.44",
            None,
            ("sip:bob@example.com;maddr=192.0.2.44", [], "sip:bob@example.com;maddr=192.0.2.44"),
        ),
        # SIPS is TLS on each hop, whatever the Route says (§16.6 step 7).
        (
            "sips:bob@192.0.2.20",
            "<sip:192.0.2.7;lr>",
            ("sips:bob@192.0.2.20", ["<sip:192.0.2.7;lr>"], "sips:192.0.2.7;lr"),
        ),
    ],
)
def test_routes(uri: str, route: str | None, leaves: tuple[str, list[str], str]) -> None:
    given = request(uri, Route=route)
    may = admitted(given)
    target = may.fixed or CALLEE
    copy = passed(given)
    assert (copy.uri, copy.headers.values("Route"), next_hop(may, target)) == leaves


def test_the_path_of_a_phone_goes_before_all_routes() -> None:
    target = Target("sip:bob@192.0.2.20", path=("<sip:edge.example.org;lr>", "<sip:inner.example.org;lr>"))
    given = request(Route="<sip:192.0.2.7;lr>")
    copy = passed(given, target)
    assert copy.headers.values("Route") == [*target.path, "<sip:192.0.2.7;lr>"]
    assert next_hop(admitted(given), target) == "sip:edge.example.org;lr"


class Hop:
    """A proxy of another domain in a call of three: ours is always one of them."""

    def __init__(self, address: str) -> None:
        self.interface = Interface("udp", address, 5060)
        self.identity = Identity(frozenset({self.interface}))

    def on(self, given: Request, target: Target | None = None, *, record_route: bool = True) -> Request:
        return passed(
            given,
            target,
            came_by=self.interface,
            leaves_by=self.interface,
            record_route=record_route,
            identity=self.identity,
        )


def test_a_call_through_loose_routers() -> None:
    """The trapezoid of §16.12.1.1: both proxies stay on the way of the BYE, which finds the way by their Record-Routes."""
    first, second = Hop("198.51.100.11"), Hop("198.51.100.12")
    invite = first.on(request("sip:callee@example.org"), Target("sip:callee@198.51.100.12"))
    assert invite.headers.values("Record-Route") == ["<sip:198.51.100.11:5060;transport=udp;lr>"]
    invite = second.on(invite, Target("sip:callee@192.0.2.20"))
    recorded = invite.headers.values("Record-Route")
    assert recorded == ["<sip:198.51.100.12:5060;transport=udp;lr>", "<sip:198.51.100.11:5060;transport=udp;lr>"]
    # The callee hangs up: its route set is the Record-Route as it came.
    bye = request("sip:alice@192.0.2.10", method="BYE", Route=", ".join(recorded))
    bye = second.on(bye)
    assert (bye.uri, bye.headers.values("Route")) == ("sip:alice@192.0.2.10", recorded[1:])
    bye = first.on(bye)
    assert (bye.uri, bye.headers.values("Route")) == ("sip:alice@192.0.2.10", [])
    assert "Record-Route" not in bye.headers


STRICT = "<sip:strict.example.org>"


def by_a_strict_router(given: Request) -> Request:
    """What one of RFC 2543 does: the first Route value becomes the Request-URI."""
    first, *rest = given.headers.values("Route")
    headers = given.headers.copy()
    headers.set("Route", ", ".join(rest)) if rest else headers.remove("Route")
    made = parse(Request(given.method, first.strip("<>"), headers, given.body).encode())
    assert isinstance(made, Request)
    return made


@pytest.mark.parametrize(
    ("addresses", "remote_target"),
    [
        (("198.51.100.11", "198.51.100.13"), "sip:callee@192.0.2.20"),  # the caller hangs up
        (("198.51.100.13", "198.51.100.11"), "sip:alice@192.0.2.10"),  # the callee does
    ],
)
def test_a_call_across_a_strict_router(addresses: tuple[str, str], remote_target: str) -> None:
    """§16.12.1.2: between two of us is one of RFC 2543, which loses the target unless it stands at the end of Route."""
    before, after = (Hop(each) for each in addresses)
    ours = [f"<sip:{each}:5060;transport=udp;lr>" for each in addresses]
    bye = before.on(request(remote_target, method="BYE", Route=", ".join([ours[0], STRICT, ours[1]])))
    assert bye.uri == "sip:strict.example.org"
    assert bye.headers.values("Route") == [ours[1], f"<{remote_target}>"]
    bye = by_a_strict_router(bye)
    assert (bye.uri, bye.headers.values("Route")) == (ours[1].strip("<>"), [f"<{remote_target}>"])
    bye = after.on(bye)
    assert (bye.uri, bye.headers.values("Route")) == (remote_target, [])


def test_a_dialog_across_two_interfaces_has_two_values() -> None:
    """What §16.12.1.3 rewrites a response for: each end gets to us by its own interface, here without it (RFC 5658)."""
    copy = passed(request(), came_by=UDP, leaves_by=TCP, record_route=True)
    recorded = copy.headers.values("Record-Route")
    assert recorded == ["<sip:198.51.100.1:5060;transport=tcp;lr>", "<sip:198.51.100.1:5060;transport=udp;lr>"]
    bye = passed(request("sip:alice@192.0.2.10", method="BYE", Route=", ".join(recorded)), came_by=TCP)
    assert (bye.uri, bye.headers.values("Route")) == ("sip:alice@192.0.2.10", [])


@pytest.mark.parametrize(
    ("came_by", "leaves_by", "uri", "target", "recorded"),
    [
        (UDP, UDP, "sip:bob@example.com", "sip:bob@192.0.2.20", ["<sip:198.51.100.1:5060;transport=udp;lr>"]),
        (
            TLS,
            UDP,
            "sip:bob@example.com",
            "sip:bob@192.0.2.20",
            ["<sip:198.51.100.1:5060;transport=udp;lr>", "<sip:198.51.100.1:5061;transport=tls;lr>"],
        ),
        (TLS, TLS, "sips:bob@example.com", "sips:bob@192.0.2.20", ["<sips:198.51.100.1:5061;lr>"]),
        (
            WSS,
            TLS,
            "sips:bob@example.com",
            "sips:bob@192.0.2.20",
            ["<sips:198.51.100.1:5061;lr>", "<sips:198.51.100.1:443;transport=ws;lr>"],
        ),
        (
            TLS,
            TLS,
            "sip:bob@example.com",
            "sips:bob@192.0.2.20",
            ["<sips:198.51.100.1:5061;lr>", "<sip:198.51.100.1:5061;transport=tls;lr>"],
        ),
    ],
)
def test_record_routes(came_by: Interface, leaves_by: Interface, uri: str, target: str, recorded: list[str]) -> None:
    copy = passed(request(uri), Target(target), came_by=came_by, leaves_by=leaves_by, record_route=True)
    assert copy.headers.values("Record-Route") == recorded


def test_what_leaves_byte_by_byte() -> None:
    given = request(X_Odd="  kept,as it is ;x ", Route="<sip:198.51.100.1;lr>")
    mark = loop_mark(given)
    may = admitted(given)
    copy = forward(
        may,
        Target("sip:bob@192.0.2.20;method=BYE;x=1?Subject=hello"),
        branch=branch("t1", mark),
        came_by=UDP,
        leaves_by=TCP,
        record_route=True,
    )
    assert copy.encode().decode().split("\r\n") == [
        "INVITE sip:bob@192.0.2.20;x=1 SIP/2.0",
        f"Via: SIP/2.0/TCP 198.51.100.1:5060;branch=z9hG4bK-t1.{mark};rport",
        "Record-Route: <sip:198.51.100.1:5060;transport=tcp;lr>",
        "Record-Route: <sip:198.51.100.1:5060;transport=udp;lr>",
        "Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-one",
        "Max-Forwards: 69",
        "From: Alice <sip:alice@example.com>;tag=a-tag",
        "To: <sip:bob@example.com>",
        "Call-ID: call-1@192.0.2.10",
        "CSeq: 1 INVITE",
        "Contact: <sip:alice@192.0.2.10:5060>",
        "X-Odd: kept,as it is ;x",
        "Content-Length: 0",
        "",
        "",
    ]


def test_a_request_without_max_forwards_gets_one() -> None:
    assert passed(request(Max_Forwards=None)).headers.get("Max-Forwards") == "70"


@pytest.mark.parametrize(
    ("given", "breadth"),
    [(None, 60), ("1", 1), ("0", 0), ("60", 60), ("61", 60), ("99999999", 60), ("-1", 60), ("many", 60), ("", 60)],
)
def test_how_many_copies_there_may_be(given: str | None, breadth: int) -> None:
    assert max_breadth(request(Max_Breadth=given)) == breadth


def test_a_mark_comes_back_by_the_route() -> None:
    copy = forward(
        admitted(request()),
        CALLEE,
        branch="z9hG4bK-1",
        came_by=UDP,
        leaves_by=TCP,
        record_route=True,
        mark="m1",
        breadth=7,
    )
    first, second = copy.headers.values("Record-Route")
    assert copy.headers.get("Max-Breadth") == "7"
    for route in (first, second, f"{first}, {second}"):
        assert mark_of(request(method="BYE", Route=route), US) == "m1"
    for route in (
        None,
        "<sip:198.51.100.1;lr>",
        "<sip:192.0.2.9;lr;dialog=m1>",
        "<sip:bob@198.51.100.1;lr;dialog=m1>",
        ";;",
    ):
        assert mark_of(request(method="BYE", Route=route), US) == ""


def test_nothing_remembered_and_the_same_branch_each_time() -> None:
    first = stateless_branch(admitted(request()))
    assert first == stateless_branch(admitted(request()))
    assert first == stateless_branch(admitted(request(method="CANCEL")))
    assert first != stateless_branch(admitted(request(Via="SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-two")))
    assert first != stateless_branch(admitted(request(Via="SIP/2.0/UDP 192.0.2.11:5060;branch=z9hG4bK-one")))


@pytest.mark.parametrize(
    ("via", "left"),
    [
        ("SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK-us, SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-one;received=203.0.113.1",
         "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-one;received=203.0.113.1"),
        ("SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK-us", None),
        ("SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-one", None),
    ],
)  # fmt: skip
def test_a_stray_response_goes_back_when_it_came_by_us(via: str, left: str | None) -> None:
    given = parse(ringing({"Via": via}))
    assert isinstance(given, Response)
    made = backward(given, US)
    assert (None if made is None else made.headers.get("Via")) == left


TOUCHED = {"Via", "Route", "Record-Route", "Max-Forwards", "Content-Length"}


@unhurried
@given(messages(), st.booleans(), st.sampled_from([UDP, TCP, TLS, WSS]))
def test_what_is_not_ours_to_change_leaves_as_it_came(
    message: Request | Response, record_route: bool, leaves_by: Interface
) -> None:
    if not isinstance(message, Request):
        message.headers.prepend("Via", "SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK-us")
        made = backward(message, US)
        assert made is not None
        assert list(made.headers) == list(message.headers)[1:]
        assert made.encode().split(b"\r\n", 1)[0] == message.encode().split(b"\r\n", 1)[0]
        return
    may = admit(message, US, came_by=UDP)
    if isinstance(may, Refused):
        assert may.status in (400, 416, 420, 483)
        return
    copy = forward(
        may, CALLEE, branch=branch("t", may.loop), came_by=UDP, leaves_by=leaves_by, record_route=record_route
    )
    read = parse(copy.encode())
    assert isinstance(read, Request), read
    assert [line for line in read.headers if line[0] not in TOUCHED] == [
        line for line in message.headers if line[0] not in TOUCHED
    ]
    assert read.headers.values("Via")[1:] == message.headers.values("Via")
    assert read.body == message.body
    assert read.via.branch == branch("t", loop_mark(message))


@pytest.mark.parametrize(
    ("transport", "sent_by", "interface"),
    [
        ("udp", "198.51.100.1:5060", UDP),
        ("udp", "198.51.100.1", UDP),
        ("tls", "198.51.100.1", TLS),
        ("udp", "node", Interface("udp", "node", 5060)),
        ("tcp", "[2001:db8::1]:5070", Interface("tcp", "[2001:db8::1]", 5070)),
        ("tcp", "[2001:db8::1]", Interface("tcp", "[2001:db8::1]", 5060)),
    ],
)
def test_an_interface_is_what_its_via_says(transport: str, sent_by: str, interface: Interface) -> None:
    assert Interface.of(transport, sent_by) == interface
