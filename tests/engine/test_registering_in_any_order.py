"""Two nodes at one store, phones at one address of record, anything in any order: no binding and no event is lost.

After each run the events tell the story of the store: replayed, they come to the bindings that it has; their sequence has no gap,
whoever delivered them, and whatever died in between.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from bridge.engine.inputs import Claimed
from bridge.engine.registrations import Deregister, RegistrationsDue, StreamsClaimed
from tests.engine.test_registering import ALICE, Phones
from tests.engine.world import Counting

NODES = st.integers(0, 1)
PHONES = st.integers(0, 3)


class Registering(RuleBasedStateMachine):
    """Two nodes. Each has a store that can be slow, and dies at times."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.nodes = [self._node("n1:1"), self._node("n2:1")]
        here, there = self.nodes
        there.keyspace, there.clock, there.written = here.keyspace, here.clock, here.written
        there.bodies, there.received = here.bodies, here.received
        self.registers = 0
        self.requests = 0
        self.asked: list[tuple[Phones, str]] = []  # REGISTERs that have been sent, and to whom

    def _node(self, owner: str) -> Phones:
        """One that draws other tokens than any before it."""
        node_id, number = owner.split(":")
        made = Phones(owner=owner, node_id=node_id, nonce=f"{node_id}nonce{number}")
        self.made += 1
        made.node._holdings.tokens = Counting(self.made * 10_000_000)
        return made

    @rule(node=NODES, phone=PHONES, expires=st.sampled_from([0, 60, 600]))
    def register(self, node: int, phone: int, expires: int) -> None:
        world = self.nodes[node]
        self.registers += 1
        name = f"r{self.registers}"
        contact = f"<sip:alice@192.0.2.{phone}>;expires={expires}"
        challenge = world.say("REGISTER", contact, name=name)
        assert challenge is not None
        world.say("REGISTER", contact, name=name, extra=world.proof(challenge))
        self.asked.append((world, name))

    @rule(node=NODES)
    def query(self, node: int) -> None:
        world = self.nodes[node]
        self.registers += 1
        name = f"q{self.registers}"
        challenge = world.say("REGISTER", name=name)
        assert challenge is not None
        world.say("REGISTER", name=name, extra=world.proof(challenge))
        self.asked.append((world, name))

    @rule(node=NODES)
    def deregister(self, node: int) -> None:
        self.requests += 1
        self.nodes[node].give(Deregister(self.requests, ALICE))

    @rule(node=NODES)
    def look_for_expiries(self, node: int) -> None:
        world = self.nodes[node]
        world.give(RegistrationsDue(world.keyspace.due_registrations(int(world.now * 1000), 10).aors))

    @rule(seconds=st.sampled_from([0.5, 5.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        began = self.nodes[0].now
        for world in self.nodes:
            world.clock.at = began
            world.advance(seconds)

    @rule(node=NODES)
    def slow_store(self, node: int) -> None:
        self.nodes[node].committing = False

    @rule(node=NODES)
    def one_write(self, node: int) -> None:
        if self.nodes[node].waiting:
            self.nodes[node].commit_one()

    @rule(node=NODES)
    def quick_store(self, node: int) -> None:
        self.nodes[node].commit_all()

    @rule(node=NODES)
    def application_goes(self, node: int) -> None:
        self.nodes[node].down = True

    @rule(node=NODES)
    def application_comes(self, node: int) -> None:
        self.nodes[node].down = False

    @rule(node=NODES, applied=st.integers(0, 2))
    def kill(self, node: int, applied: int) -> None:
        dead = self.nodes[node]
        for _ in range(min(applied, len(dead.waiting))):
            list(dead._apply(dead.waiting.popleft()))
        name, number = dead.settings.owner.split(":")
        heir = self._node(f"{name}:{int(number) + 1}")
        owner, nonce = heir.settings.owner, heir.settings.nonce
        heir.keyspace, heir.clock, heir.written = dead.keyspace, dead.clock, dead.written
        heir.bodies, heir.received = dead.bodies, dead.received
        heir.give(Claimed(tuple(heir.keyspace.claim_predecessors(owner, nonce))))
        heir.give(StreamsClaimed(tuple(heir.keyspace.claim_streams(owner, owner.rpartition(":")[0]))))
        self.nodes[node] = heir
        self.asked = [(world, asked) for world, asked in self.asked if world is not dead]

    @invariant()
    def events_come_in_order(self) -> None:
        sequences = [body["data"]["sequence"] for body in self.nodes[0].bodies]
        assert sequences == list(range(1, len(sequences) + 1))

    def teardown(self) -> None:
        for world in self.nodes:
            world.down = False
            world.commit_all()
        for _ in range(2):
            for world in self.nodes:
                world.advance(90_000.0)
            for world in self.nodes:
                self.look_for_expiries(self.nodes.index(world))
        for world, name in self.asked:
            answer = world.answer(name)
            assert answer is not None, f"{name} was never answered"
            assert answer.status in (200, 503)
        bound: dict[str, float] = {}
        self.events_come_in_order()
        for body in self.nodes[0].bodies:
            kind, data = body["type"].removeprefix("registration."), body["data"]
            if kind == "rejected":
                continue
            binding = data["binding"]
            if kind in ("created", "refreshed"):
                assert (binding["contact"] in bound) is (kind == "refreshed")
                bound[binding["contact"]] = binding["expires_at"]
            else:
                assert binding["contact"] in bound
                del bound[binding["contact"]]
        assert set(bound) == {each.contact for each in self.nodes[0].bound()}
        for world in self.nodes:
            left = world.leftovers()
            assert not {"desks", "registrar's tickets", "registrar's timers"} & set(left), left


def test_anything_in_any_order() -> None:
    settled = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(Registering, settings=settled)


@pytest.mark.slow
def test_anything_in_any_order_for_long() -> None:
    settled = settings(max_examples=2_000, stateful_step_count=50, deadline=None)
    run_state_machine_as_test(Registering, settings=settled)
