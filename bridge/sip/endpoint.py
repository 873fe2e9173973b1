"""All transactions of a node, and the one agenda of their timers.

§17 as a whole, matching included; §18.2.1 and RFC 3581 (`received`, `rport`), §18.2.2 (where responses go), §8.2.2.2
(merged requests), §9.1 and §9.2 (what a CANCEL means). Messages and the time go in, outcomes come out: bytes for flows,
and what the user must know. It refuses to know dialogs, calls, sockets and DNS, and answers nothing by itself but what
was answered before.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple, TypeAlias

from bridge.agenda import Agenda
from bridge.errors import LocalProtocolError
from bridge.sip.client_transaction import InviteClientTransaction, NonInviteClientTransaction, cancel
from bridge.sip.flow import Flow, Send, default_port
from bridge.sip.headers import Line, Via
from bridge.sip.message import Request, Response
from bridge.sip.server_transaction import InviteServerTransaction, NonInviteServerTransaction
from bridge.sip.transaction import (
    Arm,
    CancelWanted,
    Disarm,
    Effects,
    Failed,
    Fired,
    Pass,
    Received,
    Respond,
    SendCancel,
    SendMessage,
    State,
    Terminated,
    TimedOut,
    Timer,
    Timers,
    TransactionKey,
    TransportFailed,
    client_key,
    server_key,
)

MAX_TRANSACTIONS = 262_144  # 1,000 calls/s, each with 4 transactions that linger for 32 s, twice over


class RequestArrived(NamedTuple):
    """A new request, to be answered through `respond(key, …)`. Repetitions of it are not heard of again."""

    key: TransactionKey
    request: Request  # `received` and `rport` are filled in
    flow: Flow  # the way it came
    merged: bool = False  # the same request came another way before: answer 482 (§8.2.2.2)
    matches: TransactionKey | None = None  # for CANCEL: the INVITE it means, whatever its state; None: unknown, 481


class AckArrived(NamedTuple):
    """An ACK that is the user's: of a 2xx, or of nothing known."""

    request: Request
    flow: Flow


class ResponseArrived(NamedTuple):
    """A response to a request of ours: every provisional one, the final one once, of an INVITE's 2xx each copy."""

    key: TransactionKey
    response: Response
    flow: Flow  # the way it came


@dataclass(frozen=True, slots=True)
class TransactionTimedOut:
    """Timers B and F: nobody answered. H: nobody acknowledged a refusal."""

    key: TransactionKey


@dataclass(frozen=True, slots=True)
class TransportFailure:
    """What this transaction sent does not arrive. A request of ours may be sent again in another transaction."""

    key: TransactionKey
    request: bytes = b""  # of ours, as long as it was not answered
    otherwise: Flow | None = None  # the other way, where its sender knew one
    why: str = ""  # where more is known than that the connection is gone, as a reason phrase


@dataclass(frozen=True, slots=True)
class ResponsesMoved:
    """The connection of a request is lost: its responses go by `flow` from now on (§18.2.2)."""

    key: TransactionKey
    flow: Flow


class TransactionEnded(NamedTuple):
    """The transaction is forgotten."""

    key: TransactionKey


@dataclass(frozen=True, slots=True)
class Stray:
    """A response to no request of ours, or to one long over. A 2xx to an INVITE may still want its ACK."""

    response: Response
    flow: Flow


@dataclass(frozen=True, slots=True)
class Overflow:
    """A new request beyond `limit`: nothing is remembered of it. A stateless 503 to `response_flow` is possible."""

    request: Request
    flow: Flow


Outcome: TypeAlias = (
    Send
    | RequestArrived
    | AckArrived
    | ResponseArrived
    | TransactionTimedOut
    | TransportFailure
    | ResponsesMoved
    | TransactionEnded
    | Stray
    | Overflow
)

Machine: TypeAlias = (
    InviteServerTransaction | NonInviteServerTransaction | InviteClientTransaction | NonInviteClientTransaction
)
Likeness: TypeAlias = tuple[str, str | None, int, str]  # Call-ID, From tag, CSeq: what merged requests share


class _Transaction:
    """A machine, its name and its way."""

    __slots__ = ("farewell", "flow", "key", "likeness", "machine", "otherwise")

    def __init__(
        self,
        key: TransactionKey,
        machine: Machine,
        flow: Flow,
        *,
        likeness: Likeness | None = None,
        otherwise: Flow | None = None,
    ) -> None:
        self.key = key
        self.machine = machine
        self.flow = flow  # where its messages go: for a server, the response flow
        self.likeness = likeness  # registered as the first of its kind
        self.farewell: tuple[Line, ...] = ()  # header lines for its CANCEL
        self.otherwise = otherwise  # where they go once that connection is lost


class Endpoint:
    """Every transaction of a node. Adding, matching and ending one costs O(1), its timers O(log n)."""

    __slots__ = ("_agenda", "_alike", "_by_connection", "_limit", "_timers", "_transactions")

    def __init__(self, *, timers: Timers, limit: int = MAX_TRANSACTIONS) -> None:
        self._timers = timers
        self._limit = limit  # of transactions alive at once
        self._transactions: dict[TransactionKey, _Transaction] = {}
        self._alike: dict[Likeness, TransactionKey] = {}
        self._agenda: Agenda[tuple[_Transaction, Timer]] = Agenda()
        self._by_connection: dict[Flow, set[TransactionKey]] = {}  # reliable flows only

    def __len__(self) -> int:
        return len(self._transactions)

    def deadline(self) -> float | None:
        """When `wake` is wanted next (seconds UTC), or None."""
        return self._agenda.deadline()

    def state(self, key: TransactionKey) -> State | None:
        """The state of a transaction; None when it is not known any more.

        A CANCEL has an effect only while the INVITE it matches is `PROCEEDING` (§9.2).
        """
        transaction = self._transactions.get(key)
        return None if transaction is None else transaction.machine.state

    def receive(self, message: Request | Response, flow: Flow, *, now: float) -> list[Outcome]:
        """Take a parsed message that came by `flow`."""
        if isinstance(message, Response):
            key = client_key(message)
            transaction = self._transactions.get(key)
            if transaction is None:
                return [Stray(message, flow)]
            return self._carry_out(transaction, transaction.machine.step(Received(message)), flow, now)
        key = server_key(message)
        transaction = self._transactions.get(key)
        if transaction is not None:
            return self._carry_out(transaction, transaction.machine.step(Received(message)), flow, now)
        if message.method == "ACK":
            return [AckArrived(message, flow)]
        return [self._begin_server(key, message, flow)]

    def respond(self, key: TransactionKey, response: Response, *, now: float) -> list[Outcome]:
        """Answer a request, also once more with a 2xx to an INVITE.

        Raises `LocalProtocolError` for a request that is not known (any more), or that must not get this answer.
        """
        transaction = self._transactions.get(key)
        if transaction is None or not key.sent_by:
            raise LocalProtocolError(f"no request to answer {response.status}: {key}")
        return self._carry_out(transaction, transaction.machine.step(Respond(response)), transaction.flow, now)

    def request(
        self,
        request: Request,
        flow: Flow,
        *,
        now: float,
        otherwise: Flow | None = None,
        patience_s: float | None = None,
    ) -> list[Outcome]:
        """Send a request in a client transaction; `client_key(request)` is its key.

        `otherwise` comes back with `TransportFailure`: another way to the same place. `patience_s`: an INVITE that nobody has
        answered at all has timed out then, and not with Timer B.

        An ACK of a 2xx is none (§17): `Send` it. Raises `LocalProtocolError` for an ACK or a branch already in use.
        """
        key = client_key(request)
        if request.method == "ACK" or key in self._transactions:
            raise LocalProtocolError(f"no client transaction for {request.method}: {key}")
        machine: InviteClientTransaction | NonInviteClientTransaction
        if request.method == "INVITE":
            machine = InviteClientTransaction(request, self._timers, reliable=flow.reliable, patience_s=patience_s)
        else:
            machine = NonInviteClientTransaction(request, self._timers, reliable=flow.reliable)
        transaction = _Transaction(key, machine, flow, otherwise=otherwise)
        self._add(transaction)
        return self._carry_out(transaction, machine.begin(), flow, now)

    def take_up(self, invite: Request, flow: Flow) -> None:
        """Go on with an INVITE that a dead process has sent by `flow`: its responses are heard, and it can be canceled.

        Nothing is sent. Raises `LocalProtocolError` for a branch already in use.
        """
        key = client_key(invite)
        if key in self._transactions:
            raise LocalProtocolError(f"there is a client transaction already: {key}")
        machine = InviteClientTransaction(invite, self._timers, reliable=flow.reliable)
        machine.take_up()
        self._add(_Transaction(key, machine, flow))

    def cancel(self, key: TransactionKey, *, headers: tuple[Line, ...] = (), now: float) -> list[Outcome]:
        """CANCEL our INVITE: now, or when its first provisional response comes (§9.1). `headers`: what the CANCEL says too.

        Nothing happens once it is answered or over: whoever cancels cannot know. Its answer may still be a 2xx.
        """
        transaction = self._transactions.get(key)
        if transaction is None:
            return []
        transaction.farewell = headers
        return self._carry_out(transaction, transaction.machine.step(CancelWanted()), transaction.flow, now)

    def abandon(self, key: TransactionKey) -> None:
        """Forget a transaction without a word to anybody: it is another node's affair. Its timers find nothing to do."""
        transaction = self._transactions.get(key)
        if transaction is not None:
            for timer in Timer:
                self._agenda.disarm((transaction, timer))
            self._forget(transaction)

    def transport_failed(self, flow: Flow, why: str = "", *, now: float) -> list[Outcome]:
        """A connection is lost: requests of ours fail, those to be answered are answered by another (§18.2.2), once.

        For UDP nothing happens: ICMP can be forged, and silence tells by the timers.
        """
        outcomes: list[Outcome] = []
        for key in sorted(self._by_connection.get(flow, ())):
            transaction = self._transactions[key]
            machine, otherwise = transaction.machine, transaction.otherwise
            if isinstance(machine, InviteServerTransaction | NonInviteServerTransaction):
                if otherwise is not None:
                    outcomes += self._move(transaction, machine, otherwise)
                else:
                    outcomes += self._carry_out(transaction, machine.step(TransportFailed()), flow, now)
                continue
            request = machine.repeated
            for outcome in self._carry_out(transaction, machine.step(TransportFailed()), flow, now):
                failed = isinstance(outcome, TransportFailure)
                outcomes.append(TransportFailure(key, request, otherwise, why) if failed else outcome)
        return outcomes

    def _move(
        self, transaction: _Transaction, machine: InviteServerTransaction | NonInviteServerTransaction, flow: Flow
    ) -> list[Outcome]:
        """Answer by `flow` from now on. Nobody repeats a refusal of an INVITE here (§17.2.1), so it leaves once more."""
        self._leave(transaction)
        transaction.flow, transaction.otherwise = flow, None
        self._join(transaction)
        outcomes: list[Outcome] = [ResponsesMoved(transaction.key, flow)]
        if machine.state is State.COMPLETED:
            outcomes.append(Send(flow, machine.last))
        return outcomes

    def wake(self, *, now: float) -> list[Outcome]:
        """Fire every timer whose deadline has passed."""
        outcomes: list[Outcome] = []
        due = self._agenda.pop_due(now)
        while due is not None:
            transaction, timer = due
            outcomes += self._carry_out(transaction, transaction.machine.step(Fired(timer)), transaction.flow, now)
            due = self._agenda.pop_due(now)
        return outcomes

    def _begin_server(self, key: TransactionKey, request: Request, flow: Flow) -> Outcome:
        fill_via(request, flow)
        if len(self._transactions) >= self._limit:
            return Overflow(request, flow)
        machine: InviteServerTransaction | NonInviteServerTransaction
        matches, merged, likeness = None, False, None
        if request.method == "INVITE":
            machine = InviteServerTransaction(self._timers, reliable=flow.reliable)
        else:
            machine = NonInviteServerTransaction(self._timers, reliable=flow.reliable)
        if request.method == "CANCEL":
            invite = server_key(request, "INVITE")
            if invite in self._transactions:
                matches = invite
        elif request.to_tag is None:
            cseq = request.cseq
            likeness = (request.call_id, request.from_tag, cseq.number, cseq.method)
            merged = self._alike.setdefault(likeness, key) is not key
        self._add(
            _Transaction(
                key,
                machine,
                response_flow(request, flow),
                likeness=None if merged else likeness,
                otherwise=listening_flow(request, flow) if flow.reliable else None,
            )
        )
        return RequestArrived(key, request, flow, merged, matches)

    def _add(self, transaction: _Transaction) -> None:
        self._transactions[transaction.key] = transaction
        self._join(transaction)

    def _join(self, transaction: _Transaction) -> None:
        if transaction.flow.reliable:
            self._by_connection.setdefault(transaction.flow, set()).add(transaction.key)

    def _leave(self, transaction: _Transaction) -> None:
        if transaction.flow.reliable:
            keys = self._by_connection[transaction.flow]
            keys.remove(transaction.key)
            if not keys:
                del self._by_connection[transaction.flow]

    def _forget(self, transaction: _Transaction) -> None:
        del self._transactions[transaction.key]
        if transaction.likeness is not None:
            del self._alike[transaction.likeness]
        self._leave(transaction)

    def _carry_out(self, transaction: _Transaction, effects: Effects, flow: Flow, now: float) -> list[Outcome]:
        """Turn a machine's effects into deadlines and outcomes. `flow` is the way the message to pass on came."""
        outcomes: list[Outcome] = []
        for effect in effects:
            match effect:
                case SendMessage(data):
                    outcomes.append(Send(transaction.flow, data))
                case Arm(timer, delay) if delay > 0:
                    self._agenda.arm((transaction, timer), now + delay)
                case Arm(timer):
                    # Zero seconds on a reliable transport (Table 4) need no waking.
                    outcomes += self._carry_out(transaction, transaction.machine.step(Fired(timer)), flow, now)
                case Disarm(timer):
                    self._agenda.disarm((transaction, timer))
                case Pass(Request() as request):
                    outcomes.append(AckArrived(request, flow))
                case Pass(Response() as response):
                    outcomes.append(ResponseArrived(transaction.key, response, flow))
                case Terminated():
                    self._forget(transaction)
                    outcomes.append(TransactionEnded(transaction.key))
                case TimedOut():
                    outcomes.append(TransactionTimedOut(transaction.key))
                case Failed():
                    outcomes.append(TransportFailure(transaction.key))
                case SendCancel():
                    outcomes += self._send_cancel(transaction, now)
        return outcomes

    def _send_cancel(self, transaction: _Transaction, now: float) -> list[Outcome]:
        machine = transaction.machine
        if not isinstance(machine, InviteClientTransaction) or machine.request is None:
            raise LocalProtocolError(f"nothing to cancel: {transaction.key}")
        return self.request(cancel(machine.request, transaction.farewell), transaction.flow, now=now)


def fill_via(request: Request, flow: Flow) -> None:
    """Write into the top Via where the request really came from (§18.2.1; RFC 3581 §4 where it asks by `rport`)."""
    via = request.via
    wants_port, claims_source = False, False
    for name, _ in via.params:
        if name == "rport":
            wants_port = True
        elif name == "received":
            claims_source = True
    if wants_port:
        params = [
            (name, str(flow.port) if name == "rport" else value) for name, value in via.params if name != "received"
        ]
    elif claims_source or not same_host(via.host, flow.host):
        params = [each for each in via.params if each[0] != "received"]
    else:
        return
    params.append(("received", flow.host))
    request.replace_via(Via(via.transport, via.host, via.port, tuple(params)))


def response_flow(request: Request, flow: Flow) -> Flow:
    """Where the responses to `request` go, which came by `flow` (§18.2.2, RFC 3581 §4).

    `maddr` is not followed: it serves multicast, which we do not, and whoever wants to flood a third party.
    """
    via = request.via
    port = via.port or default_port(flow.transport)
    if port == flow.port or flow.reliable or via.param("rport") is not None:
        return flow
    return flow._replace(port=port)


def listening_flow(request: Request, flow: Flow) -> Flow | None:
    """Where the responses to `request` go once the connection by which it came is lost (§18.2.2); None: nowhere else.

    To the address that it really came from and the port of its sent-by, so nobody can have us connect to a third party.
    """
    via = request.via
    back = flow._replace(port=via.port or default_port(flow.transport))
    if back == flow:
        return None
    return back._replace(name=far_end(via.host, flow.host)) if flow.secure else back


def far_end(host: str, address: str) -> str:
    """Who has to be at `address` over TLS, where a URI or a Via has named this host: that domain, or the address itself."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return host.lower().rstrip(".")
    return address


def same_host(sent_by: str, address: str) -> bool:
    """Whether the host of a sent-by is that IP address: IPv6 has brackets there, and many spellings (RFC 5118 §4.5)."""
    if sent_by == address:
        return True
    if ":" not in address:
        return False
    try:
        return ip_address(sent_by.strip("[]")) == ip_address(address)
    except ValueError:
        return False
