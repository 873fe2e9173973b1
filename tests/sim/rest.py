"""The integrator's REST client, and as much of the API as stands between it and a node.

Commands hit calls that it believes to be alive, at random moments; a call that it wants is asked for with an
Idempotency-Key, again and again, at any node, until somebody says 201.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any

from bridge.calls.facts import CallId
from bridge.contract.actions import COMMANDS, ActionList, to_actions
from bridge.contract.originating import OriginateBody
from bridge.engine.commit import Claim
from bridge.engine.effects import CommandAccepted, Originated, OriginateRefused
from bridge.engine.inputs import Input
from bridge.errors import StoreUnavailable
from tests.sim.application import HOST, Application
from tests.sim.clock import VirtualClock
from tests.sim.ladder import Ladder
from tests.sim.machine import Machine
from tests.sim.network import Network
from tests.sim.process import Answer, Process
from tests.sim.store import at_once

ASKS_AGAIN_S = 4.0  # for a call, as long as it has not been told of one
ASKS = 8
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


class Client:
    """Who commands."""

    def __init__(
        self,
        *,
        clock: VirtualClock,
        chance: Random,
        network: Network,
        ladder: Ladder,
        machines: list[Machine],
        application: Application,
        transfers: bool = False,
    ) -> None:
        self.eager = True  # False: it only commands what it is told to
        self.made: dict[str, set[str]] = {}  # by Idempotency-Key: the calls that 201 named
        self.accepted: dict[str, str] = {}  # actions that a node has promised to run, and what they are
        self._clock = clock
        self._chance = chance
        self._network = network
        self._ladder = ladder
        self._machines = machines
        self._application = application
        self._transfers = transfers

    # Commands

    def react(self, call: str) -> None:
        """Now and then a call is commanded as soon as something is told of it, or while that is being answered."""
        if self._chance.random() < 0.08 and self.eager:
            wait = self._chance.choice((0.0, self._chance.uniform(0.0, 0.1)))
            self._clock.later(wait, partial(self.command_something, call))

    def command_something(self, call: str | None = None) -> None:
        """Any command, on this call, or on any."""
        application, chance = self._application, self._chance
        if not application.calls:
            return
        if call is None or call not in application.calls:
            call = chance.choice(list(application.calls))
        others = [each for each in application.calls if each != call]
        choices: list[tuple[str, dict[str, Any]]] = [
            ("hangup", {}),
            ("leave", {}),
            ("hold", {}),
            ("unhold", {}),
            ("answer", {}),
            ("mute", {}),
            ("reject", {"code": 486}),
            ("dial", {key: value for key, value in application.dial().items() if key != "action"}),
        ]
        if others:
            joined = {"call_id": chance.choice(others), "end_with_peer": chance.random() < 0.5}
            choices += [("join", joined)] * 4
        if self._transfers:
            choices += [("transfer", {"to": "sip:carol@10.0.9.9"})] * 4
        if self._transfers and others:
            choices += [("transfer", {"replaces_call_id": chance.choice(others)})] * 2
        name, fields = chance.choice(choices)
        if chance.random() < 0.2:
            listed = [{"action": name, **fields}, {"action": "pause", "seconds": 2}, {"action": "hangup"}]
            self._ask(call, {"actions": listed})
        else:
            self._ask(call, fields, name)

    def hang_up(self, call: str) -> None:
        """End this call."""
        self._ask(call, {}, "hangup")

    def _ask(self, call: str, body: dict[str, Any], name: str = "") -> None:
        machine = next((each for each in self._machines if each.name == self._application.calls.get(call)), None)
        if machine is not None and machine.process is not None and machine.process.company is not None:
            machine = self._chance.choice(self._machines)  # any node takes any command
        process = self._reach(machine) if machine is not None else None
        self._ladder.tell("app", "" if machine is None else machine.name, f"REST {name or 'list'} {call[:12]} {body}")
        if process is None:
            return
        if name:
            actions = (COMMANDS[name].model_validate(body).to_action(),)
        else:
            actions = to_actions(ActionList.model_validate(body).actions)
        names = [action.name for action in actions]
        told = partial(self._commanded, process.name, names)
        process.command(CallId(call), actions, listed=not name, answered=told)

    def _commanded(self, node: str, names: list[str], answer: Answer) -> None:
        self._told(node, answer)
        if isinstance(answer, CommandAccepted):
            self.accepted.update(zip(answer.action_ids, names, strict=True))

    def _told(self, node: str, answer: Answer) -> None:
        self._ladder.tell(node, "app", f"REST {type(answer).__name__} {getattr(answer, 'detail', '')}")

    def _reach(self, machine: Machine) -> Process | None:
        return machine.serving if self._network.reaches(machine.address[0], HOST) else None

    # Calls that it wants

    def originate(self, key: str, target: dict[str, Any], actions: list[dict[str, Any]]) -> None:
        """Have somebody called, exactly once."""
        self.made[key] = set()
        body = {"to": target, "timeout_s": 20, "on_redirect": "report", "actions": actions}
        self._ask_for(key, body, ASKS)

    def _ask_for(self, key: str, body: dict[str, Any], left: int) -> None:
        if not left or self.made[key]:
            return
        self._clock.later(ASKS_AGAIN_S, partial(self._ask_for, key, body, left - 1))
        self._ask_once(key, body)
        if self._chance.random() < 0.3:  # a client that is not patient, or a proxy that repeats what it passes on
            self._clock.later(self._chance.choice((0.0, 0.5, 10.0)), partial(self._ask_once, key, body))

    def _ask_once(self, key: str, body: dict[str, Any]) -> None:
        machine = self._chance.choice(self._machines)
        self._ladder.tell("app", machine.name, f"REST originate {key}")
        process = self._reach(machine)
        if process is None:
            return
        claim = Claim(f"sim:{key}", sha256(json.dumps(body).encode()).hexdigest())
        try:
            remembered = at_once(process.link.remembered(claim.key))
        except StoreUnavailable:
            return
        if remembered is not None:
            self._made(key, remembered.call)
            return
        call = CallId("call_" + "".join(self._chance.choices(_LETTERS, k=24)))
        wanted = OriginateBody.model_validate(body)
        make: Callable[[int], Input] = lambda request: wanted.to_originate(request, call, claim)  # noqa: E731
        process.request(make, partial(self._originated, key, process.name))

    def _originated(self, key: str, node: str, answer: Answer) -> None:
        self._told(node, answer)
        if isinstance(answer, Originated):
            self._made(key, answer.call)
        elif isinstance(answer, OriginateRefused) and answer.remembered is not None:
            self._made(key, answer.remembered.call)

    def _made(self, key: str, call: str) -> None:
        self.made[key].add(call)
