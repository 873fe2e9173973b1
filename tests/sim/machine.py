"""One machine of the service: a node's name and address, its media workers, and whatever process signals there now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from bridge.calls.actions import Action
from bridge.calls.call import Identity, Plan
from bridge.engine.inputs import Input
from bridge.engine.registrations import User
from bridge.engine.settings import Application, Listener, NodeSettings, RegistrarSettings
from bridge.outbox.effects import Endpoint
from bridge.outbox.schedule import Schedule
from bridge.sip.locating import Hop
from bridge.sip.registrar import Rules
from tests.sim.clock import VirtualClock
from tests.sim.cluster import Links
from tests.sim.ladder import Ladder
from tests.sim.media import Speakers, Workers
from tests.sim.network import Address, Network
from tests.sim.process import LISTENER, Mischief, Post, Process
from tests.sim.store import Server

ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, NOTIFY, REFER, REGISTER"
RETRIES = Schedule(delays=(0.0, 1.0, 2.0, 4.0, 8.0, *[16.0] * 20))  # outlasts every fault: no event may go dead
REALM = "sim"
# What DNS knows. Nobody is at the first.
NAMES = {"phones.example": (Hop("udp", "10.0.2.250", 5060), Hop("udp", "10.0.2.1", 5060))}


def settings(
    host: str,
    node_id: str,
    endpoints: tuple[Endpoint, ...],
    fallback: tuple[Action, ...],
    users: Mapping[str, User],
    *,
    transfers: bool = False,
) -> NodeSettings:
    """A node with one application; its owner and nonce are each process's own."""
    plan = Plan("default", fallback=fallback, ring_limit_s=100.0, duration_limit_s=300.0)
    contact = Identity(f"<sip:{host}:5060>", "sim", ALLOW)
    return NodeSettings(
        owner="",
        node_id=node_id,
        nonce="",
        secret=b"s" * 32,
        listeners={LISTENER: Listener(LISTENER, f"{host}:5060", contact)},
        applications=(Application("default", plan, endpoints, transfers=transfers),),
        registrar=RegistrarSettings(realm=REALM, rules=Rules(expires_min_s=10), users=users),
        schedule=RETRIES,
    )


class Machine:
    """Starts processes and outlives them."""

    def __init__(
        self,
        base: NodeSettings,
        host: str,
        *,
        clock: VirtualClock,
        chance: Random,
        network: Network,
        store: Server,
        post: Post,
        ladder: Ladder,
        speakers: list[Speakers],
        links: Links | None = None,
        mischief: Mischief | None = None,
    ) -> None:
        self.address: Address = (host, 5060)
        self.name = base.node_id
        self.process: Process | None = None
        self.incarnations = 0
        self.workers = Workers(
            host, clock=clock, network=network, chance=chance, hearer=self._hearer, speakers=speakers
        )
        self._base = replace(base, clustered=links is not None)
        self._clock = clock
        self._chance = chance
        self._ladder = ladder
        network.names[host] = base.node_id

        def make(process_settings: NodeSettings) -> Process:
            return Process(
                process_settings,
                address=self.address,
                clock=clock,
                chance=chance,
                network=network,
                store=store,
                workers=self.workers,
                post=post,
                names=NAMES,
                ladder=ladder,
                links=links,
                mischief=mischief,
            )

        self._make: Callable[[NodeSettings], Process] = make

    @property
    def serving(self) -> Process | None:
        """The process that could answer now, if there is one."""
        process = self.process
        return process if process is not None and process.open and not process.standing_still else None

    def start(self) -> None:
        """Start a process, unless one is there."""
        if self.process is not None and self.process.alive:
            return
        self.incarnations += 1
        nonce = f"{self._chance.getrandbits(60):015x}"
        self.process = self._make(
            replace(self._base, owner=f"{self.name}:{self.incarnations}", nonce=f"{self.name}{nonce}")
        )
        self.process.start()

    def kill(self, back_in_s: float) -> None:
        """Kill the process; the supervisor starts another."""
        if self.process is not None and self.process.alive:
            self._ladder.tell(self.name, "", "is killed")
            self.process.kill()
        self._clock.later(back_in_s, self.start)

    def stop(self, back_in_s: float) -> None:
        """Stop the process in good order, where it is one among others; another is started then, or the supervisor does
        it as soon as this one has ended."""
        if self.process is not None:
            self._ladder.tell(self.name, "", "is told to end")
            self.process.stop()
        self._clock.later(back_in_s, self._start_again)

    def _start_again(self) -> None:
        """Once the one before has ended."""
        if self.process is not None and self.process.draining and self.process.alive:
            self._clock.later(1.0, self._start_again)
        else:
            self.start()

    def _hearer(self) -> Callable[[Input], None]:
        return self.process.give if self.process is not None else lambda _: None
