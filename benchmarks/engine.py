"""The engine alone: what deciding about an answered call, or a joined one, costs, without a socket, a store or an application.

The part of W1 and W2 that is our own Python and nothing else, on a clock that is a number: warm caches, no neighbours, so
it says exactly whether a change made it better or worse. What they cost beyond it is I/O, the event loop, and cold caches.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from statistics import median

from benchmarks.machine import loop_ms
from bridge.ambient import SystemTokens
from bridge.calls.actions import Action, Answer, Dial, Target
from bridge.calls.call import Identity, Plan
from bridge.calls.facts import Quality
from bridge.engine.admission import AdmissionLimits
from bridge.engine.commit import Commit
from bridge.engine.effects import ClosePorts, Deliver, Effect, OpenPorts
from bridge.engine.inputs import Committed, Delivered, Input, Packet, PortsClosed, PortsOpened, Woken
from bridge.engine.node import Node
from bridge.engine.settings import Application, Listener, NodeSettings
from bridge.outbox.effects import Endpoint
from bridge.outbox.schedule import Outcome, Schedule
from bridge.sealing import ClusterSeal
from bridge.service import ContractRenderer
from bridge.sip.flow import Flow, Send

CALLER, BRIDGE, CALLEE = "127.0.64.2", "127.0.64.1", "127.0.64.3"
FLOW = Flow("udp", f"udp:{BRIDGE}:5060", CALLER, 5060)
CALLEE_FLOW = FLOW._replace(host=CALLEE)
DELIVERED = Outcome(200, None, None, 0.002)
QUALITY = Quality()
ANSWER: Sequence[Action] = (Answer(),)
DIAL: Sequence[Action] = (Dial(to=(Target(f"sip:callee@{CALLEE}"),)),)
COPIED = (b"Via", b"From", b"Call-ID", b"CSeq")  # from a request to its responses (§8.2.6.2)


@dataclass(frozen=True, slots=True)
class Figure:
    """CPU microseconds of the engine for one call of a kind, over several rounds."""

    name: str
    held: int  # other calls that were up meanwhile
    calls: int  # per round
    us: tuple[float, ...]
    loop_ms: float

    @property
    def median_us(self) -> float:
        return median(self.us)


class Bench:
    """One node in a world that answers at once."""

    def __init__(self, reply: Sequence[Action]) -> None:
        """`reply`: what the application says to every call."""
        identity = Identity(f"<sip:{BRIDGE}:5060>", "sip-bridge", "INVITE, ACK, BYE, CANCEL, OPTIONS")
        hook = Endpoint("default", f"http://{BRIDGE}:3000/calls", None, decision=True)
        settings = NodeSettings(
            owner="benchmark:1",
            node_id="benchmark",
            nonce="nonce",
            secret=b"s" * 32,
            listeners={FLOW.listener: Listener(FLOW.listener, f"{BRIDGE}:5060", identity)},
            applications=(Application("default", Plan("default", ()), (hook,)),),
            admission=AdmissionLimits(trusted=(ip_network("127.0.0.0/8"),)),  # as the service has it
            schedule=Schedule(),
            max_calls=1_000_000,
        )
        self.node = Node(
            settings,
            render=ContractRenderer(),
            tokens=SystemTokens(),
            chance=lambda: 0.5,
            seal=ClusterSeal(settings.secret, SystemTokens()),
        )
        self.now = 1000.0
        self._reply = reply
        self._calls = 0
        self._port = 0

    def call(self, *, gap_s: float = 0.005, ends: bool = True) -> None:
        """One call, answered, `gap_s` after the one before. With `ends` it is over afterwards."""
        self.now += gap_s
        deadline = self.node.deadline()
        if deadline is not None and deadline <= self.now:
            self._give(Woken())
        self._calls = number = self._calls + 1
        to_tag = self._tag(self._give(Packet(_request("INVITE", number, ""), FLOW)))
        self._give(Packet(_request("ACK", number, to_tag), FLOW))
        if ends:
            self._give(Packet(_request("BYE", number, to_tag), FLOW))

    @property
    def live(self) -> int:
        return self.node.live

    def _give(self, given: Input) -> list[Effect]:
        inbox: deque[Input] = deque((given,))
        everything: list[Effect] = []
        while inbox or self.node.unwritten:
            for effect in self.node.take(inbox.popleft(), now=self.now) if inbox else self.node.write():
                everything.append(effect)
                kind = type(effect)
                if kind is Commit:
                    inbox.append(Committed(effect.ticket))  # type: ignore[union-attr]
                elif kind is Deliver:
                    delivery = effect.delivery  # type: ignore[union-attr]
                    inbox.append(Delivered(delivery.delivery, DELIVERED, self._reply if delivery.decision else None))
                elif kind is OpenPorts:
                    self._port = (self._port + 2) % 20_000
                    inbox.append(PortsOpened(effect.session, BRIDGE, 10_000 + self._port))  # type: ignore[union-attr]
                elif kind is ClosePorts:
                    inbox.append(PortsClosed(effect.session, QUALITY))  # type: ignore[union-attr]
                elif kind is Send and effect.flow is not FLOW and effect.flow == CALLEE_FLOW:  # type: ignore[union-attr]
                    inbox.extend(Packet(each, CALLEE_FLOW) for each in _answers(effect.data))  # type: ignore[union-attr]
        return everything

    @staticmethod
    def _tag(effects: list[Effect]) -> str:
        """The To tag of the 200 among what was sent."""
        for effect in effects:
            if type(effect) is Send and effect.data.startswith(b"SIP/2.0 200"):
                to = effect.data.partition(b"\r\nTo: ")[2].partition(b"\r\n")[0]
                return to.rpartition(b"tag=")[2].decode()
        raise AssertionError("the call was not answered")


def measure_engine(*, held: int, calls: int, rounds: int, joined: bool = False) -> Figure:
    """CPU per call with `held` others up. `joined`: each is sent to a party, and both hear each other."""
    bench = Bench(DIAL if joined else ANSWER)
    for _ in range(held):
        bench.call(ends=False)
    for _ in range(200):
        bench.call()
    live = bench.live
    costs, loops = [], []
    for _ in range(rounds):
        gc.collect()
        began = time.process_time()
        for _ in range(calls):
            bench.call()
        costs.append((time.process_time() - began) / calls * 1e6)
        loops.append(loop_ms())
    if not live == bench.live == held * (2 if joined else 1):
        raise AssertionError(f"{bench.live} calls are up, and {held} callers hold theirs")
    return Figure("engine, joined" if joined else "engine", held, calls, tuple(costs), median(loops))


def _sdp(address: str) -> str:
    return (
        f"v=0\r\no=user1 53655765 2353687637 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
        "m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )


def _request(method: str, number: int, to_tag: str) -> bytes:
    """What SIPp's `-sn uac` sends."""
    body = _sdp(CALLER) if method == "INVITE" else ""
    tag = f";tag={to_tag}" if to_tag else ""
    sequence = 2 if method == "BYE" else 1
    content = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"{method} sip:service@{BRIDGE}:5060 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {CALLER}:5060;branch=z9hG4bK-4711-{number}-{method}\r\n"
        f"From: sipp <sip:sipp@{CALLER}:5060>;tag=4711SIPpTag00{number}\r\n"
        f"To: service <sip:service@{BRIDGE}:5060>{tag}\r\n"
        f"Call-ID: {number}-4711@{CALLER}\r\nCSeq: {sequence} {method}\r\n"
        f"Contact: sip:sipp@{CALLER}:5060\r\nMax-Forwards: 70\r\nSubject: Performance Test\r\n"
        f"{content}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _answers(request: bytes) -> list[bytes]:
    """What SIPp's `-sn uas` says to a request."""
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    copied = [line for line in lines if line.partition(b":")[0] in COPIED]
    to = next(line for line in lines if line.startswith(b"To:"))
    if lines[0].startswith(b"ACK"):
        return []
    if lines[0].startswith(b"BYE"):
        return [b"\r\n".join((b"SIP/2.0 200 OK", *copied, to, b"Content-Length: 0", b"", b""))]
    copied += [to + b";tag=4712SIPpTag01", b"Contact: <sip:%b:5060;transport=UDP>" % CALLEE.encode()]
    body = _sdp(CALLEE).encode()
    content = (b"Content-Type: application/sdp", b"Content-Length: %d" % len(body))
    return [
        b"\r\n".join((b"SIP/2.0 180 Ringing", *copied, b"Content-Length: 0", b"", b"")),
        b"\r\n".join((b"SIP/2.0 200 OK", *copied, *content, b"", body)),
    ]
