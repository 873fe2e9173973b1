"""The application: two endpoints that are told everything, one of which decides; and how these fail.

What it receives it keeps, for the invariants. Its replies are JSON as an integrator writes it. Knows nothing of nodes but
who has sent what, so that its commands find them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from random import Random
from typing import Any, NamedTuple, TypeAlias

from bridge.outbox.effects import Delivery, Endpoint
from bridge.outbox.schedule import Outcome
from tests.sim.clock import VirtualClock
from tests.sim.ladder import Ladder
from tests.sim.network import Network
from tests.sim.phone_callee import PASSWORD
from tests.sim.process import Process

HOST = "10.0.3.1"
ENDPOINTS = (
    Endpoint("desk", "http://app/desk", "http://app/spare", decision=True),
    Endpoint("log", "http://app/log"),
)
DOWN = Outcome(None, "refused", None, 0.0, detail="connection refused")
Json: TypeAlias = dict[str, Any]


class Mood(StrEnum):
    """How an endpoint is."""

    WELL = "well"
    DOWN = "down"
    SLOW = "slow"
    NONSENSE = "nonsense"


class Received(NamedTuple):
    """One event as it came."""

    at: float
    endpoint: str
    owner: str  # the process that has sent it
    event: str
    call: str  # or another stream: "aor:…"
    sequence: int
    type: str
    body: bytes


class Application:
    """What the simulated integrator has written."""

    def __init__(
        self, *, clock: VirtualClock, chance: Random, network: Network, ladder: Ladder, callees: list[str]
    ) -> None:
        """`callees`: names of URIs that may be dialed."""
        self.moods = {endpoint.id: Mood.WELL for endpoint in ENDPOINTS}
        self.received: list[Received] = []
        self.calls: dict[str, str] = {}  # that it believes to be alive, and the node that has told of them last
        self.on_told: Callable[[str], None] = lambda _: None  # is told of each call of which an event has come
        self.targets = callees
        self.connects = False  # True: most callers are put through to somebody
        self._clock = clock
        self._chance = chance
        self._network = network
        self._ladder = ladder
        network.names[HOST] = "app"

    def post(self, process: Process, delivery: Delivery, answered: Callable[[Outcome], None]) -> None:
        """One attempt of a node; `answered` is told what came of it, once."""
        attempt = _Attempt(answered)
        self._clock.later(delivery.timeout_s, partial(attempt.over, Outcome(None, "timeout", None, delivery.timeout_s)))
        self._ladder.tell(
            process.name,
            delivery.endpoint,
            f"{delivery.event_type} #{delivery.sequence} {delivery.call[:12]} attempt {delivery.attempt}",
        )
        if not self._network.reaches(process.address[0], HOST):
            return  # nobody will ever answer
        way = self._chance.uniform(0.001, 0.02)
        self._clock.later(way, partial(self._arrive, process, delivery, attempt))

    def _arrive(self, process: Process, delivery: Delivery, attempt: _Attempt) -> None:
        mood, chance = self.moods[delivery.endpoint], self._chance
        if mood is Mood.DOWN:
            attempt.over(DOWN)
            return
        self._take(process, delivery)
        wait = chance.uniform(0.001, 0.1) if chance.random() < 0.85 else chance.uniform(0.1, 4.0)
        if mood is Mood.SLOW:
            wait = chance.uniform(2.0, 15.0)
        status, body, retry_after = 200, b"", None
        if mood is Mood.NONSENSE and chance.random() < 0.7:
            status = chance.choice((200, 302, 429, 500, 503))
            body = chance.choice((b"<html>", b'{"actions": 7}', b'{"actions": [{"action": "fly"}]}', b"\xff\x00"))
            retry_after = chance.choice((None, 0.0, 3.0)) if status in (429, 503) else None
        elif delivery.decision:
            asked = delivery.event_type == "transfer.requested"
            body = json.dumps(self.decide_transfer() if asked else self.decide()).encode()
        outcome = Outcome(status, None, retry_after, wait, body if delivery.decision else b"", "", "application/json")
        self._clock.later(wait, partial(self._answer, process, delivery, attempt, outcome))

    def _answer(self, process: Process, delivery: Delivery, attempt: _Attempt, outcome: Outcome) -> None:
        if not attempt.is_over:
            said = outcome.body.decode("latin-1")[:160] if delivery.decision else ""
            self._ladder.tell(delivery.endpoint, process.name, f"{outcome.status} {delivery.event_type} {said}")
        if self._network.reaches(process.address[0], HOST):
            attempt.over(outcome)

    def _take(self, process: Process, delivery: Delivery) -> None:
        read = json.loads(delivery.body)
        data = read["data"]
        self.received.append(
            Received(
                self._clock.now(),
                delivery.endpoint,
                process.settings.owner,
                read["id"],
                data["stream"],
                data["sequence"],
                read["type"],
                delivery.body,
            )
        )
        if data["stream"].startswith("aor:"):
            return
        if read["type"] == "call.ended":
            self.calls.pop(data["call_id"], None)
        elif delivery.endpoint == "desk":
            self.calls[data["call_id"]] = process.name
            self.on_told(data["call_id"])

    # What it wants

    def decide(self) -> Json:
        """A reply to `call.incoming`."""
        chance = self._chance
        if self.connects and chance.random() < 0.7:
            return {"actions": [self.dial()]}
        plans: list[list[Json]] = [
            [{"action": "answer"}],
            [{"action": "ring"}, {"action": "pause", "seconds": chance.choice((0.5, 3, 8))}, {"action": "answer"}],
            [{"action": "answer"}, {"action": "pause", "seconds": chance.choice((1, 10))}, {"action": "hangup"}],
            [{"action": "answer"}, {"action": "hold"}, {"action": "pause", "seconds": 5}, {"action": "unhold"}],
            [{"action": "reject", "code": chance.choice((486, 404, 603))}],
            [{"action": "park", "timeout_s": chance.choice((2, 15))}],
            [{"action": "answer"}, {"action": "park", "timeout_s": 20}],
            [{"action": "hangup"}],
            [{"action": "ring"}],
            [],
            [self.dial()],
            [self.dial()],
            [{"action": "answer"}, self.dial()],
            [self.dial(), {"action": "answer"}, {"action": "pause", "seconds": 4}, {"action": "hangup"}],
            [{"action": "mute"}, {"action": "answer"}],
        ]
        return {"actions": chance.choice(plans)}

    def decide_transfer(self) -> Json:
        """A reply to `transfer.requested`."""
        accept: Json = {"action": "accept", "timeout_s": self._chance.choice((3, 10, 30))}
        elsewhere = {**accept, "to": self._chance.choice(self.targets)}
        return {"actions": self._chance.choice(([accept], [accept], [accept], [elsewhere], [{"action": "reject"}], []))}

    def target(self) -> Json:
        """Somebody to call, with the password of whoever wants one."""
        name = self._chance.choice(self.targets)
        return {"uri": name, "auth": {"username": name[4:].partition("@")[0], "password": PASSWORD}}

    def dial(self) -> Json:
        """An action that seeks somebody."""
        chance = self._chance
        return {
            "action": "dial",
            "to": [self.target() for _ in range(chance.choice((1, 1, 2, 3)))],
            "fork": chance.choice(("parallel", "serial")),
            "timeout_s": chance.choice((3, 10, 30)),
            "answer_caller": chance.choice(("on_answer", "on_answer", "now")),
            "end_with_peer": chance.random() < 0.7,
        }


class _Attempt:
    """One POST, over once."""

    def __init__(self, answered: Callable[[Outcome], None]) -> None:
        self._answered: Callable[[Outcome], None] | None = answered

    @property
    def is_over(self) -> bool:
        return self._answered is None

    def over(self, outcome: Outcome) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(outcome)
