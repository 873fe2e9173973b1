"""All transactions of a node together: matching, ways, timers, CANCEL, merged requests, strays, bounds."""

from __future__ import annotations

from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import LocalProtocolError
from bridge.sip.endpoint import (
    AckArrived,
    Endpoint,
    Outcome,
    Overflow,
    RequestArrived,
    ResponseArrived,
    ResponsesMoved,
    Stray,
    TransactionEnded,
    TransactionTimedOut,
    TransportFailure,
    fill_via,
    response_flow,
    same_host,
)
from bridge.sip.flow import Flow, Send
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.transaction import State, Timers, TransactionKey, client_key, server_key
from bridge.sip.user_agent import respond
from tests.sip.bench import first_word, request, response

UDP = Flow("udp", "udp:0.0.0.0:5060", "192.0.2.4", 5070)
TCP = Flow("tcp", "tcp:0.0.0.0:5060", "192.0.2.4", 40000)
LISTENING = TCP._replace(port=5070)  # as Alice's Via says

T = TypeVar("T")


class Node:
    """An endpoint with a clock that the test advances; `outcomes` is everything it ever said."""

    def __init__(self, *, limit: int = 100) -> None:
        self.endpoint = Endpoint(timers=Timers(), limit=limit)
        self.now = 1_000_000.0
        self.outcomes: list[Outcome] = []

    def receive(self, message: Request | Response, flow: Flow = UDP) -> list[Outcome]:
        arrived = parse(message.encode())  # as from the wire: nothing is shared with the sender
        assert isinstance(arrived, Request | Response)
        return self._said(self.endpoint.receive(arrived, flow, now=self.now))

    def arrive(self, message: Request, flow: Flow = UDP) -> RequestArrived:
        (arrived,) = self.receive(message, flow)
        assert isinstance(arrived, RequestArrived)
        return arrived

    def respond(self, arrived: RequestArrived, status: int) -> list[Outcome]:
        answer = respond(arrived.request, status, to_tag="ours")
        return self._said(self.endpoint.respond(arrived.key, answer, now=self.now))

    def request(self, made: Request, flow: Flow = UDP) -> list[Outcome]:
        return self._said(self.endpoint.request(made, flow, now=self.now))

    def cancel(self, made: Request) -> list[Outcome]:
        return self._said(self.endpoint.cancel(client_key(made), now=self.now))

    def lose(self, flow: Flow) -> list[Outcome]:
        return self._said(self.endpoint.transport_failed(flow, now=self.now))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.endpoint.deadline()) is not None and deadline <= end:
            self.now = deadline
            self._said(self.endpoint.wake(now=deadline))
        self.now = end

    def sent(self) -> list[str]:
        return [first_word(each.data) for each in self.outcomes if isinstance(each, Send)]

    def of(self, kind: type[T]) -> list[T]:
        return [each for each in self.outcomes if isinstance(each, kind)]

    def _said(self, outcomes: list[Outcome]) -> list[Outcome]:
        self.outcomes += outcomes
        return outcomes


def ack_of_refusal(invite: Request) -> Request:
    """Alice's ACK of a response from 300 on: the INVITE's branch."""
    ack = request("ACK", To="Bob <sip:bob@biloxi.example>;tag=ours")
    ack.headers.set("Via", invite.headers.get("Via") or "")
    return ack


ACK_OF_2XX = {"Via": "SIP/2.0/UDP pc33.atlanta.example:5070;branch=z9hG4bKack", "To": "<sip:b@c.example>;tag=ours"}


# Server side


def test_a_whole_call_leaves_nothing_behind() -> None:
    node = Node()
    invite = node.arrive(request())
    node.respond(invite, 100)
    node.respond(invite, 200)
    assert node.receive(request("ACK", **ACK_OF_2XX)) == [AckArrived(request("ACK", **ACK_OF_2XX), UDP)]
    bye = node.arrive(request("BYE", CSeq="314160 BYE", Via="SIP/2.0/UDP pc33.atlanta.example:5070;branch=z9hG4bKbye"))
    node.respond(bye, 200)
    assert node.sent() == ["100", "200", "200"]
    assert len(node.endpoint) == 2

    node.advance(32.0)
    assert node.of(TransactionEnded) == [TransactionEnded(invite.key), TransactionEnded(bye.key)]
    assert len(node.endpoint) == 0
    assert node.endpoint.deadline() is None


def test_a_repeated_invite_is_absorbed_and_gets_the_last_response() -> None:
    node = Node()
    invite = node.arrive(request())
    assert node.receive(request()) == []
    (ringing,) = node.respond(invite, 180)
    assert node.receive(request()) == [ringing]
    (ok,) = node.respond(invite, 200)
    assert node.receive(request()) == []  # the 2xx is the user's to repeat
    assert node.respond(invite, 200) == [ok]


def test_the_ack_of_a_refusal_is_absorbed() -> None:
    node = Node()
    invite = node.arrive(request())
    node.respond(invite, 486)
    node.advance(0.6)
    assert node.sent() == ["486", "486"]
    assert node.receive(ack_of_refusal(request())) == []
    assert node.receive(ack_of_refusal(request())) == []
    node.advance(60.0)
    assert node.sent() == ["486", "486"]
    assert len(node.endpoint) == 0
    assert node.of(TransactionTimedOut) == []


def test_a_refusal_that_nobody_acknowledges_times_out() -> None:
    node = Node()
    invite = node.arrive(request())
    node.respond(invite, 486)
    node.advance(40.0)
    assert node.outcomes[-2:] == [TransactionTimedOut(invite.key), TransactionEnded(invite.key)]


def test_an_ack_with_the_invites_branch_reaches_the_user_after_a_2xx() -> None:
    node = Node()
    node.respond(node.arrive(request()), 200)
    ack = ack_of_refusal(request())  # some peers reuse the branch
    assert node.receive(ack) == [AckArrived(ack, UDP)]


def test_an_ack_of_nothing_known_reaches_the_user() -> None:
    assert Node().receive(request("ACK")) == [AckArrived(request("ACK"), UDP)]


def test_a_repeated_bye_gets_its_answer_again() -> None:
    node = Node()
    bye = node.arrive(request("BYE"))
    (ok,) = node.respond(bye, 200)
    node.advance(20.0)
    assert node.receive(request("BYE")) == [ok]
    node.advance(12.0)
    assert len(node.endpoint) == 0


def test_reliable_transports_need_no_lingering() -> None:
    node = Node()
    options = node.arrive(request("OPTIONS"), TCP)
    answer, ended = node.respond(options, 200)
    assert isinstance(answer, Send)
    assert ended == TransactionEnded(options.key)

    invite = node.arrive(request(), TCP)
    node.respond(invite, 486)
    assert node.receive(ack_of_refusal(request()), TCP) == [TransactionEnded(invite.key)]
    assert node.endpoint.deadline() is None


def test_an_answer_to_nothing_is_our_own_mistake() -> None:
    node = Node()
    with pytest.raises(LocalProtocolError):
        node.endpoint.respond(TransactionKey("z9hG4bKx", "host", "INVITE"), response(200), now=0.0)
    node.request(request())
    with pytest.raises(LocalProtocolError):
        node.endpoint.respond(client_key(request()), response(200), now=0.0)


# CANCEL, received


def test_a_cancel_names_the_invite_it_means() -> None:
    node = Node()
    invite = node.arrive(request())
    cancel = node.arrive(request("CANCEL"))
    assert cancel.matches == invite.key
    assert node.endpoint.state(invite.key) is State.PROCEEDING
    node.respond(cancel, 200)
    node.respond(invite, 487)
    assert node.sent() == ["200", "487"]
    assert node.receive(request("CANCEL")) == [node.of(Send)[0]]


@pytest.mark.parametrize(("status", "state"), [(200, State.ACCEPTED), (486, State.COMPLETED)])
def test_a_cancel_that_crosses_our_final_response_is_answered_and_changes_nothing(status: int, state: State) -> None:
    node = Node()
    invite = node.arrive(request())
    node.respond(invite, status)
    cancel = node.arrive(request("CANCEL"))
    assert cancel.matches == invite.key  # so the user says 200, not 481
    node.respond(cancel, 200)
    assert node.endpoint.state(invite.key) is state
    assert node.sent() == [str(status), "200"]


def test_a_cancel_without_its_invite_matches_nothing() -> None:
    assert Node().arrive(request("CANCEL")).matches is None


def test_a_cancel_of_another_sender_with_the_same_branch_matches_nothing() -> None:
    node = Node()
    node.arrive(request())
    foreign = request("CANCEL", Via="SIP/2.0/UDP elsewhere.example;branch=z9hG4bK776asdhds")
    assert node.arrive(foreign).matches is None


# Matching


def test_the_same_request_another_way_is_a_merged_one() -> None:
    node = Node()
    first = node.arrive(request())
    second = node.arrive(request(Via="SIP/2.0/UDP fork.example;branch=z9hG4bKfork2"))
    third = node.arrive(request(Via="SIP/2.0/UDP fork.example;branch=z9hG4bKfork3"))
    assert [first.merged, second.merged, third.merged] == [False, True, True]
    node.respond(second, 482)
    node.respond(third, 482)
    node.respond(first, 200)
    node.advance(60.0)
    assert len(node.endpoint) == 0
    assert node.arrive(request(Via="SIP/2.0/UDP fork.example;branch=z9hG4bKfork4")).merged is False


@pytest.mark.parametrize(
    "changed",
    [
        {"CSeq": "314160 INVITE"},
        {"Call_ID": "another"},
        {"From": "<sip:alice@atlanta.example>;tag=another"},
        {"To": "<sip:bob@biloxi.example>;tag=in-a-dialog"},
    ],
)
def test_another_request_is_not_a_merged_one(changed: dict[str, str]) -> None:
    node = Node()
    node.arrive(request())
    other = request(Via="SIP/2.0/UDP pc33.atlanta.example:5070;branch=z9hG4bKother", **changed)
    assert node.arrive(other).merged is False


OLD_VIA = "SIP/2.0/UDP pc33.atlanta.example:5070"


@pytest.mark.parametrize("via", [OLD_VIA, f"{OLD_VIA};branch=1", f"{OLD_VIA};branch=", f"{OLD_VIA};branch=z9hG4bK"])
def test_peers_of_rfc_2543_are_matched_by_what_they_send(via: str) -> None:
    node = Node()
    invite = node.arrive(request(Via=via))
    assert node.receive(request(Via=via)) == []
    assert node.arrive(request("CANCEL", Via=via)).matches == invite.key
    node.respond(invite, 486)
    ack = request("ACK", Via=via, To="<sip:bob@biloxi.example>;tag=ours")
    assert node.receive(ack) == []
    assert node.endpoint.state(invite.key) is State.CONFIRMED


@pytest.mark.parametrize(
    "changed",
    [
        {"uri": "sip:carol@biloxi.example"},
        {"CSeq": "314160 INVITE"},
        {"Call_ID": "another"},
        {"From": "<sip:alice@atlanta.example>;tag=another"},
        {"Via": "SIP/2.0/UDP elsewhere.example:5070"},
    ],
)
@pytest.mark.parametrize("via", [OLD_VIA, f"{OLD_VIA};branch=z9hG4bK"])
def test_peers_of_rfc_2543_are_told_apart_by_what_they_send(changed: dict[str, str], via: str) -> None:
    node = Node()
    node.arrive(request(Via=via))
    node.arrive(request(**{"Via": via, **changed}))
    assert len(node.endpoint) == 2


def test_the_same_branch_of_two_senders_is_two_transactions() -> None:
    node = Node()
    node.arrive(request("OPTIONS"))
    node.arrive(request("OPTIONS", Via="SIP/2.0/UDP elsewhere.example;branch=z9hG4bK776asdhds", Call_ID="another"))
    assert len(node.endpoint) == 2


def test_sent_by_is_compared_without_regard_to_case() -> None:
    ipv6 = "SIP/2.0/UDP [2001:db8::c0de]:5070;branch=z9hG4bKv6"
    assert server_key(request(Via=ipv6)) == server_key(request(Via=ipv6.replace("c0de", "C0DE")))
    assert server_key(request(Via=ipv6)) != server_key(request(Via=ipv6.replace("5070", "5071")))


def test_a_request_to_ourselves_is_two_transactions() -> None:
    node = Node()
    made = request("OPTIONS")
    node.request(made)
    arrived = node.arrive(made)
    assert arrived.key != client_key(made)
    (answer,) = node.respond(arrived, 200)
    assert isinstance(answer, Send)
    (told, *_) = node.receive(respond(made, 200))
    assert isinstance(told, ResponseArrived)


# Ways


def source_of(text: str, flow: Flow) -> str:
    made = request(Via=text)
    fill_via(made, flow)
    return made.headers.get("Via") or ""


def test_a_via_with_a_name_gets_the_address_it_came_from() -> None:
    assert source_of("SIP/2.0/UDP pc33.atlanta.example;branch=z9hG4bK1", UDP).endswith(";received=192.0.2.4")


def test_a_via_with_the_right_address_stays_as_it_is() -> None:
    via = "SIP/2.0/UDP 192.0.2.4:5070;branch=z9hG4bK1"
    assert source_of(via, UDP) == via


def test_a_via_that_asks_for_its_port_gets_both() -> None:
    via = source_of("SIP/2.0/UDP 192.0.2.4:5060;rport;branch=z9hG4bK1", UDP)
    assert via == "SIP/2.0/UDP 192.0.2.4:5060;rport=5070;branch=z9hG4bK1;received=192.0.2.4"


@pytest.mark.parametrize("host", ["192.0.2.4", "10.0.0.1"])
def test_nobody_else_may_say_where_it_came_from(host: str) -> None:
    via = source_of(f"SIP/2.0/UDP {host};received=203.0.113.9;branch=z9hG4bK1;rport=1", UDP)
    assert via == f"SIP/2.0/UDP {host};branch=z9hG4bK1;rport=5070;received=192.0.2.4"
    via = source_of(f"SIP/2.0/UDP {host};received=203.0.113.9;branch=z9hG4bK1", UDP)
    assert via == f"SIP/2.0/UDP {host};branch=z9hG4bK1;received=192.0.2.4"


def test_only_the_top_via_is_touched() -> None:
    via = source_of("SIP/2.0/UDP p1.example;branch=z9hG4bK1, SIP/2.0/UDP p2.example;branch=z9hG4bK2;rport", UDP)
    assert (
        via == "SIP/2.0/UDP p1.example;branch=z9hG4bK1;received=192.0.2.4, SIP/2.0/UDP p2.example;branch=z9hG4bK2;rport"
    )


@pytest.mark.parametrize("written", ["[2001:db8::1]", "[2001:DB8:0:0::1]", "[2001:db8:0:0:0:0:0:1]"])
def test_one_ipv6_address_has_many_spellings(written: str) -> None:
    assert same_host(written, "2001:db8::1")
    assert not same_host(written, "2001:db8::2")
    flow = UDP._replace(host="2001:db8::1")
    assert "received" not in source_of(f"SIP/2.0/UDP {written};branch=z9hG4bK1", flow)


def test_an_ipv6_source_is_written_without_brackets() -> None:
    flow = UDP._replace(host="2001:db8::1")
    assert source_of("SIP/2.0/UDP [2001:db8::9];branch=z9hG4bK1", flow).endswith(";received=2001:db8::1")
    assert not same_host("phone.example", "2001:db8::1")


@pytest.mark.parametrize(
    ("via", "flow", "port"),
    [
        ("SIP/2.0/UDP pc33.example:5080;branch=z9hG4bK1", UDP, 5080),
        ("SIP/2.0/UDP pc33.example;branch=z9hG4bK1", UDP, 5060),
        ("SIP/2.0/UDP pc33.example:5080;branch=z9hG4bK1;rport", UDP, UDP.port),
        ("SIP/2.0/UDP pc33.example:5080;branch=z9hG4bK1;maddr=203.0.113.9", UDP, 5080),
        ("SIP/2.0/TCP pc33.example:5080;branch=z9hG4bK1", TCP, TCP.port),
    ],
)
def test_where_responses_go(via: str, flow: Flow, port: int) -> None:
    assert response_flow(request(Via=via), flow) == flow._replace(port=port)
    node = Node()
    (sent,) = node.respond(node.arrive(request(Via=via), flow), 100)
    assert isinstance(sent, Send)
    assert sent.flow == flow._replace(port=port)


# Client side


def test_a_request_is_answered() -> None:
    node = Node()
    made = request("OPTIONS")
    assert node.request(made) == [Send(UDP, made.encode())]
    trying, ok = response(100, made), response(200, made)
    assert node.receive(trying) == [ResponseArrived(client_key(made), trying, UDP)]
    assert node.receive(ok) == [ResponseArrived(client_key(made), ok, UDP)]
    assert node.receive(ok) == []
    node.advance(5.0)
    assert node.outcomes[-1] == TransactionEnded(client_key(made))
    assert node.receive(ok) == [Stray(ok, UDP)]


def test_a_request_into_silence_times_out() -> None:
    node = Node()
    made = request()
    node.request(made)
    node.advance(100.0)
    assert node.sent() == ["INVITE"] * 7
    assert node.outcomes[-2:] == [TransactionTimedOut(client_key(made)), TransactionEnded(client_key(made))]
    assert node.endpoint.deadline() is None


def test_a_refusal_is_acknowledged_and_told_once() -> None:
    node = Node()
    made = request()
    node.request(made)
    node.receive(response(486, made))
    node.receive(response(486, made))
    assert node.sent() == ["INVITE", "ACK", "ACK"]
    assert len(node.of(ResponseArrived)) == 1


def test_a_2xx_is_told_each_time_and_when_all_is_over_is_a_stray() -> None:
    node = Node()
    made = request()
    node.request(made)
    ok = response(200, made)
    node.receive(ok)
    node.receive(ok)
    assert len(node.of(ResponseArrived)) == 2
    node.advance(33.0)
    assert node.receive(ok) == [Stray(ok, UDP)]


def test_a_response_to_a_method_we_did_not_send_is_a_stray() -> None:
    node = Node()
    node.request(request("OPTIONS"))
    foreign = response(200, request("BYE"))
    assert node.receive(foreign) == [Stray(foreign, UDP)]


def test_our_cancel_waits_for_the_first_response_and_has_its_own_transaction() -> None:
    node = Node()
    made = request()
    node.request(made)
    assert node.cancel(made) == []
    node.receive(response(180, made))
    assert node.sent() == ["INVITE", "CANCEL"]
    (ok, *_) = node.receive(response(200, request("CANCEL")))
    assert isinstance(ok, ResponseArrived)
    assert ok.key.method == "CANCEL"
    node.receive(response(487, made))
    assert node.sent() == ["INVITE", "CANCEL", "ACK"]
    node.advance(60.0)
    assert len(node.endpoint) == 0


def test_our_cancel_of_what_is_over_is_no_mistake() -> None:
    node = Node()
    made = request()
    assert node.cancel(made) == []
    node.request(made)
    node.receive(response(200, made))
    assert node.cancel(made) == []


def test_an_ack_or_a_used_branch_is_our_own_mistake() -> None:
    node = Node()
    with pytest.raises(LocalProtocolError):
        node.request(request("ACK"))
    node.request(request())
    with pytest.raises(LocalProtocolError):
        node.request(request())


def test_a_lost_connection_fails_what_it_carried_and_nothing_else() -> None:
    node = Node()
    lost, kept = request("OPTIONS"), request("OPTIONS", Via="SIP/2.0/TCP us.example;branch=z9hG4bKkept")
    node.request(lost, TCP)
    node.request(kept, TCP._replace(port=40001))
    waiting = node.arrive(request("INVITE"), TCP)
    outcomes = node.lose(TCP)
    assert TransportFailure(client_key(lost), lost.encode()) in outcomes
    assert TransactionEnded(client_key(lost)) in outcomes
    assert ResponsesMoved(waiting.key, LISTENING) in outcomes
    assert TransportFailure(waiting.key) in node.lose(LISTENING)  # told, but still the user's to answer (RFC 6026)
    assert node.endpoint.state(waiting.key) is State.PROCEEDING
    assert node.endpoint.state(client_key(kept)) is State.TRYING


def test_the_other_way_comes_back_with_the_request_that_failed() -> None:
    node = Node()
    made = request("BYE")
    node.endpoint.request(made, TCP, now=node.now, otherwise=LISTENING)
    assert node.lose(TCP)[0] == TransportFailure(client_key(made), made.encode(), LISTENING)
    assert len(node.endpoint) == 0


def test_who_has_lost_the_connection_is_answered_where_its_via_says_that_it_listens() -> None:
    node = Node()
    invite = node.arrive(request("INVITE"), TCP)
    node.respond(invite, 180)
    assert node.lose(TCP) == [ResponsesMoved(invite.key, LISTENING)]
    assert [each.flow for each in node.respond(invite, 200) if isinstance(each, Send)] == [LISTENING]
    again = request("INVITE")
    again.headers.set("Via", "SIP/2.0/TCP other.example;branch=z9hG4bKtwo")
    assert node.lose(TCP) == []
    other = node.arrive(again, TCP)
    assert node.lose(TCP) == [ResponsesMoved(other.key, LISTENING._replace(port=5060))]


def test_a_refusal_that_has_no_ack_leaves_again_by_the_new_way() -> None:
    node = Node()
    invite = node.arrive(request("INVITE"), TCP)
    (sent,) = [each for each in node.respond(invite, 486) if isinstance(each, Send)]
    assert node.lose(TCP) == [ResponsesMoved(invite.key, LISTENING), Send(LISTENING, sent.data)]
    node.receive(ack_of_refusal(request()), LISTENING)
    assert len(node.endpoint) == 0


def test_where_the_via_leads_nowhere_else_the_answer_fails() -> None:
    node = Node()
    invite = node.arrive(request("INVITE", Via="SIP/2.0/TCP pc33.atlanta.example:40000;branch=z9hG4bKp"), TCP)
    assert node.lose(TCP) == [TransportFailure(invite.key)]


def test_an_icmp_error_fails_nothing() -> None:
    node = Node()
    node.request(request("OPTIONS"))
    assert node.endpoint.transport_failed(UDP, now=node.now) == []


# Bounds


def test_beyond_the_limit_nothing_is_remembered() -> None:
    node = Node(limit=2)
    node.arrive(request("INVITE", Via="SIP/2.0/UDP a.example;branch=z9hG4bK1"))
    first = node.arrive(request("OPTIONS", Via="SIP/2.0/UDP a.example;branch=z9hG4bK2"))
    (overflow,) = node.receive(request("OPTIONS", Via="SIP/2.0/UDP a.example;branch=z9hG4bK3"))
    assert isinstance(overflow, Overflow)
    assert overflow.request.via.param("received") == UDP.host
    assert len(node.endpoint) == 2
    assert node.receive(request("ACK"))  # what needs no memory still passes
    node.respond(first, 200)
    node.advance(32.0)
    node.arrive(request("OPTIONS", Via="SIP/2.0/UDP a.example;branch=z9hG4bK3"))


def test_a_late_wake_up_fires_each_timer_once() -> None:
    node = Node()
    node.request(request("OPTIONS"))
    node.now += 10.0
    outcomes = node.endpoint.wake(now=node.now)
    assert [first_word(each.data) for each in outcomes if isinstance(each, Send)] == ["OPTIONS"]
    assert node.endpoint.deadline() == node.now + 1.0


def test_an_early_wake_up_does_nothing() -> None:
    node = Node()
    node.request(request("OPTIONS"))
    assert node.endpoint.wake(now=node.now + 0.4) == []


# Whatever the order


FROM_THE_WIRE = [
    request(),
    request("CANCEL"),
    ack_of_refusal(request()),
    request("ACK", **ACK_OF_2XX),
    request("BYE", CSeq="314160 BYE"),
    request(Via="SIP/2.0/UDP fork.example;branch=z9hG4bKfork2"),
    request(Via=OLD_VIA),
    *(response(status) for status in (100, 180, 200, 404, 487)),
    *(response(status, request("CANCEL")) for status in (200, 481)),
]
STEPS = st.one_of(
    st.sampled_from(FROM_THE_WIRE),
    st.sampled_from(["invite", "cancel", "lost", "answer 180", "answer 200", "answer 486"]),
    st.floats(min_value=0.0, max_value=20.0),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEPS, max_size=25), flow=st.sampled_from([UDP, TCP]))
def test_nothing_raises_and_nothing_is_left(steps: list[Request | Response | str | float], flow: Flow) -> None:
    node = Node()
    ours = request(Via="SIP/2.0/UDP pc33.atlanta.example:5070;branch=z9hG4bK776asdhds")
    for step in steps:
        if isinstance(step, float):
            node.advance(step)
        elif isinstance(step, Request | Response):
            node.receive(step, flow)
        elif step == "cancel":
            node.cancel(ours)
        elif step == "lost":
            node.lose(flow)
        elif step == "invite":
            if node.endpoint.state(client_key(ours)) is None:
                node.request(ours, flow)
        else:
            answer_what_is_open(node, int(step.split()[1]))
    answer_what_is_open(node, 500)
    node.cancel(ours)
    node.receive(response(487, ours), flow)
    node.advance(100.0)
    assert len(node.endpoint) == 0
    assert node.endpoint.deadline() is None
    ended = [each.key for each in node.of(TransactionEnded)]
    assert set(ended) >= {each.key for each in node.of(RequestArrived)}


def answer_what_is_open(node: Node, status: int) -> None:
    for arrived in node.of(RequestArrived):
        if node.endpoint.state(arrived.key) in (State.TRYING, State.PROCEEDING):
            node.respond(arrived, status)


def test_a_transaction_that_is_abandoned_leaves_nothing_behind() -> None:
    bench = Node()
    key = bench.arrive(request()).key
    bench.endpoint.respond(key, respond(request(), 486, to_tag="ours"), now=bench.now)
    bench.endpoint.abandon(key)
    bench.endpoint.abandon(key)
    assert (len(bench.endpoint), bench.endpoint.state(key), bench.endpoint.deadline()) == (0, None, None)
    assert not bench.arrive(request()).merged


def test_an_invite_that_another_process_has_sent_is_canceled_and_heard() -> None:
    node = Node()
    invite = request()
    node.endpoint.take_up(invite, UDP)
    assert node.sent() == []
    node.outcomes += node.endpoint.cancel(client_key(invite), now=node.now)
    assert node.sent() == ["CANCEL"]
    node.receive(response(487))
    assert node.sent() == ["CANCEL", "ACK"]
    assert [outcome.response.status for outcome in node.of(ResponseArrived)] == [487]
    with pytest.raises(LocalProtocolError):
        node.endpoint.take_up(invite, UDP)
    node.advance(64.0)
    assert len(node.endpoint) == 0
