"""The proxy on the transactions that there are: one owner of an endpoint, contexts and Timer C, as the engine would be."""

from __future__ import annotations

from bridge.agenda import Agenda
from bridge.sip.endpoint import (
    AckArrived,
    Endpoint,
    Outcome,
    RequestArrived,
    ResponseArrived,
    Stray,
    TransactionEnded,
    TransactionTimedOut,
    TransportFailure,
    response_flow,
)
from bridge.sip.flow import Flow, Send
from bridge.sip.message import Request, Response
from bridge.sip.parser import parse
from bridge.sip.proxy import Admitted, Identity, Interface, admit, backward, branch, forward, next_hop, stateless_branch
from bridge.sip.response_context import (
    Abandon,
    Answered,
    ArmTimerC,
    CancelAttempt,
    Canceled,
    DisarmTimerC,
    Effect,
    Forget,
    Forward,
    Over,
    Refuse,
    Relay,
    ResponseContext,
    State,
    TimerCFired,
    Unanswered,
    Unreachable,
)
from bridge.sip.target_set import Fork, Target, groups
from bridge.sip.transaction import Timers, TransactionKey, client_key
from bridge.sip.uri import SipUri, parse_uri
from bridge.sip.user_agent import Refused, refuse, respond
from tests.sip.wire import wire

HERE = Interface("udp", "198.51.100.1", 5060)
ALICE = Flow("udp", "udp", "192.0.2.10", 5060)
DESK, POCKET = Flow("udp", "udp", "192.0.2.1", 5060), Flow("udp", "udp", "192.0.2.2", 5060)
TARGETS = [Target("sip:bob@192.0.2.1"), Target("sip:bob@192.0.2.2", 0.5)]


class Proxy:
    """Whatever arrives, and what it sends for it, read back from the bytes."""

    def __init__(self, *, fork: Fork = Fork.PARALLEL, targets: list[Target] = TARGETS, transport: str = "udp") -> None:
        self.endpoint = Endpoint(timers=Timers())
        self.identity = Identity(frozenset({HERE}), domains=frozenset({"example.com"}))
        self.fork, self.targets, self.transport = fork, targets, transport
        self.now = 1_000_000.0
        self.timers_c: Agenda[int] = Agenda()
        self.context: ResponseContext | None = None
        self.server: RequestArrived | None = None
        self.admitted: Admitted | None = None
        self.clients: dict[TransactionKey, int] = {}
        self.sent: list[tuple[str, Request | Response]] = []

    def flow_to(self, uri: str) -> Flow:
        read = parse_uri(uri)
        assert isinstance(read, SipUri)
        return Flow(self.transport, self.transport, read.host, read.port or 5060)

    def receive(self, data: bytes, flow: Flow) -> list[tuple[str, str]]:
        """What is sent for it: to whom, and the first word, with the status of responses."""
        message = parse(data)
        assert isinstance(message, Request | Response), message
        before = len(self.sent)
        self.take(self.endpoint.receive(message, flow, now=self.now))
        return self.said(before)

    def said(self, since: int) -> list[tuple[str, str]]:
        return [(to, each.method if isinstance(each, Request) else str(each.status)) for to, each in self.sent[since:]]

    def advance(self, seconds: float) -> list[tuple[str, str]]:
        before, end = len(self.sent), self.now + seconds
        while True:
            due = [each for each in (self.endpoint.deadline(), self.timers_c.deadline()) if each is not None]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            self.take(self.endpoint.wake(now=self.now))
            attempt = self.timers_c.pop_due(self.now)
            if attempt is not None and self.context is not None:
                self.carry_out(self.context.step(TimerCFired(attempt)))
        self.now = end
        return self.said(before)

    def lose(self, flow: Flow) -> list[tuple[str, str]]:
        before = len(self.sent)
        self.take(self.endpoint.transport_failed(flow, now=self.now))
        return self.said(before)

    def take(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            match outcome:
                case Send(flow, data):
                    message = parse(data)
                    assert isinstance(message, Request | Response), message
                    self.sent.append((flow.host, message))
                case RequestArrived(key, request, _, _, matches) if request.method == "CANCEL":
                    known = self.server is not None and matches == self.server.key and self.context is not None
                    answer = respond(request, 200 if known else 481, to_tag="p")
                    self.take(self.endpoint.respond(key, answer, now=self.now))
                    if known and self.context is not None:
                        self.carry_out(self.context.step(Canceled()))
                case RequestArrived():
                    self.begin(outcome)
                case AckArrived(request, _):
                    self.pass_statelessly(request)
                case ResponseArrived(key, response, _) if key in self.clients and self.context is not None:
                    self.carry_out(self.context.step(Answered(self.clients[key], response)))
                case TransactionTimedOut(key) if key in self.clients and self.context is not None:
                    self.carry_out(self.context.step(Unanswered(self.clients[key])))
                case TransportFailure(key) if key in self.clients and self.context is not None:
                    self.carry_out(self.context.step(Unreachable(self.clients[key])))
                case Stray(response, _):
                    back = backward(response, self.identity)
                    if back is not None:
                        self.sent.append((back.via.host, back))
                case ResponseArrived() | TransactionEnded():
                    pass  # the answer to a CANCEL of ours
                case TransactionTimedOut(key):
                    assert key.method == "CANCEL" or (self.server is not None and key == self.server.key)
                case _:
                    raise AssertionError(outcome)

    def begin(self, arrived: RequestArrived) -> None:
        made = admit(arrived.request, self.identity, came_by=HERE)
        if isinstance(made, Refused):
            self.take(self.endpoint.respond(arrived.key, refuse(arrived.request, made), now=self.now))
            return
        self.server, self.admitted = arrived, made
        targets = self.targets if made.fixed is None else [made.fixed]
        self.context = ResponseContext(arrived.request.method, groups(targets, self.fork))
        if arrived.request.method == "INVITE":
            self.take(self.endpoint.respond(arrived.key, respond(arrived.request, 100), now=self.now))
        self.carry_out(self.context.begin())

    def pass_statelessly(self, ack: Request) -> None:
        made = admit(ack, self.identity, came_by=HERE)
        assert isinstance(made, Admitted)
        target = made.fixed
        assert target is not None
        copy = forward(made, target, branch=stateless_branch(made), came_by=HERE, leaves_by=HERE, record_route=False)
        self.sent.append((self.flow_to(next_hop(made, target)).host, copy))

    def carry_out(self, effects: list[Effect]) -> None:
        assert self.server is not None
        assert self.admitted is not None
        for effect in effects:
            match effect:
                case Forward(attempt, target):
                    token = branch(f"t{attempt}", self.admitted.loop)
                    copy = forward(self.admitted, target, branch=token, came_by=HERE, leaves_by=HERE, record_route=True)
                    self.clients[client_key(copy)] = attempt
                    flow = self.flow_to(next_hop(self.admitted, target))
                    self.take(self.endpoint.request(copy, flow, now=self.now))
                case Relay(response, beside=False):
                    self.take(self.endpoint.respond(self.server.key, response, now=self.now))
                case Relay(response):
                    self.sent.append((response_flow(self.server.request, self.server.flow).host, response))
                case Refuse(status):
                    answer = respond(self.server.request, status, to_tag="p")
                    self.take(self.endpoint.respond(self.server.key, answer, now=self.now))
                case Forget():
                    self.endpoint.abandon(self.server.key)
                case CancelAttempt(attempt):
                    self.take(self.endpoint.cancel(self.key_of(attempt), now=self.now))
                case Abandon(attempt):
                    self.endpoint.abandon(self.key_of(attempt))
                case ArmTimerC(attempt, delay):
                    self.timers_c.arm(attempt, self.now + delay)
                case DisarmTimerC(attempt):
                    self.timers_c.disarm(attempt)
                case Over():
                    assert self.timers_c.deadline() is None  # nothing is left behind

    def key_of(self, attempt: int) -> TransactionKey:
        return next(key for key, each in self.clients.items() if each == attempt)

    def copy(self, attempt: int, method: str = "INVITE") -> Request:
        """The request of that method that went to a target."""
        host = f"192.0.2.{attempt + 1}"
        return next(
            each for to, each in self.sent if to == host and isinstance(each, Request) and each.method == method
        )

    def answer(self, attempt: int, status: int, method: str = "INVITE") -> list[tuple[str, str]]:
        made = respond(self.copy(attempt, method), status, to_tag=f"phone{attempt}")
        return self.receive(made.encode(), (DESK, POCKET)[attempt])


def from_alice(method: str = "INVITE", uri: str = "sip:bob@example.com", **changes: str) -> bytes:
    headers = {name.replace("_", "-"): value for name, value in changes.items()}
    return wire(f"{method} {uri} SIP/2.0", {"CSeq": f"1 {method}"} | headers)


def test_two_phones_ring_and_one_answers() -> None:
    proxy = Proxy()
    assert proxy.receive(from_alice(), ALICE) == [
        ("192.0.2.10", "100"),
        ("192.0.2.1", "INVITE"),
        ("192.0.2.2", "INVITE"),
    ]
    assert proxy.copy(0).via.branch != proxy.copy(1).via.branch
    assert proxy.answer(0, 100) == []
    assert proxy.answer(0, 180) == [("192.0.2.10", "180")]
    assert proxy.answer(1, 180) == [("192.0.2.10", "180")]
    assert proxy.answer(0, 200) == [("192.0.2.10", "200"), ("192.0.2.2", "CANCEL")]
    assert proxy.copy(1, "CANCEL").via == proxy.copy(1).via
    # Its answers are not the caller's; the refusal is acknowledged here.
    assert proxy.answer(1, 200, "CANCEL") == []
    assert proxy.answer(1, 487) == [("192.0.2.2", "ACK")]
    assert proxy.context is not None
    assert proxy.context.state is State.OVER
    # The ACK finds its way by our Record-Route, and nothing is remembered of it.
    recorded = next(each for _, each in proxy.sent if isinstance(each, Response) and each.status == 200)
    (route,) = recorded.headers.values("Record-Route")
    ack = from_alice("ACK", "sip:bob@192.0.2.1", Route=route, Via="SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-ack")
    assert proxy.receive(ack, ALICE) == [("192.0.2.1", "ACK")]
    assert "Route" not in proxy.copy(0, "ACK").headers
    # A 2xx that crossed with the CANCEL, long after: forwarded by its Via alone.
    proxy.advance(100)
    assert len(proxy.endpoint) == 0
    assert proxy.answer(1, 200) == [("192.0.2.10", "200")]


def test_the_caller_cancels() -> None:
    proxy = Proxy()
    proxy.receive(from_alice(), ALICE)
    proxy.answer(0, 180)
    # One has not rung yet: its CANCEL waits for it to (§9.1).
    assert proxy.receive(from_alice("CANCEL"), ALICE) == [("192.0.2.10", "200"), ("192.0.2.1", "CANCEL")]
    assert proxy.answer(1, 180) == [("192.0.2.10", "180"), ("192.0.2.2", "CANCEL")]
    assert proxy.answer(0, 487) == [("192.0.2.1", "ACK")]
    assert proxy.answer(1, 487) == [("192.0.2.2", "ACK"), ("192.0.2.10", "487")]


def test_a_phone_rings_forever() -> None:
    proxy = Proxy(targets=TARGETS[:1])
    proxy.receive(from_alice(), ALICE)
    proxy.answer(0, 180)
    proxy.advance(100)
    proxy.answer(0, 180)  # puts Timer C off
    assert proxy.advance(184) == []
    sent = proxy.advance(2)
    assert set(sent) == {("192.0.2.1", "CANCEL")}  # and once more, as nobody answers it
    # It heeds no CANCEL: the caller is told all the same, and nothing is left of it but the ACK that is awaited.
    sent = proxy.advance(40)
    assert sent.count(("192.0.2.10", "408")) >= 1
    proxy.advance(100)
    assert len(proxy.endpoint) == 0


def test_nobody_answers_and_the_next_one_is_tried() -> None:
    proxy = Proxy(fork=Fork.SERIAL)
    proxy.receive(from_alice(), ALICE)
    sent = proxy.advance(33)
    assert ("192.0.2.2", "INVITE") in sent
    assert proxy.answer(1, 486) == [("192.0.2.2", "ACK"), ("192.0.2.10", "486")]


def test_a_lost_connection_is_no_fault_of_ours() -> None:
    proxy = Proxy(targets=TARGETS[:1], transport="tcp")
    proxy.receive(from_alice(), ALICE)
    assert proxy.lose(Flow("tcp", "tcp", "192.0.2.1", 5060)) == [("192.0.2.10", "500")]


def test_a_loop_comes_to_its_end() -> None:
    """Another domain's name leads back to us: the second time we see it, it is refused, and that goes all the way back."""
    proxy = Proxy()
    proxy.receive(from_alice(uri="sip:bob@198.51.100.1:5999"), ALICE)
    copy = next(each for _, each in proxy.sent if isinstance(each, Request))
    proxy.receive(copy.encode(), Flow("udp", "udp", "198.51.100.1", 5060))
    refusal = next(each for _, each in proxy.sent if isinstance(each, Response) and each.status == 482)
    assert refusal.via.branch == copy.via.branch
    sent = proxy.receive(refusal.encode(), Flow("udp", "udp", "198.51.100.1", 5999))
    assert sent == [("198.51.100.1", "ACK"), ("192.0.2.10", "482")]


def test_a_message_that_nobody_answers_is_not_answered_either() -> None:
    proxy = Proxy()
    proxy.receive(from_alice("MESSAGE"), ALICE)
    sent = proxy.advance(40)
    assert all(method == "MESSAGE" for _, method in sent)
    assert len(proxy.endpoint) == 0
