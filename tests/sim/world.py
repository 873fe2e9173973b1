"""One world: everything that a run has, put together from its seed, and given time."""

from __future__ import annotations

from random import Random
from typing import cast

from bridge.calls.actions import Action, Answer, Pause, Reject, Ring
from bridge.engine.registrations import User
from bridge.sip.digest import Ha1
from tests.sim import wire
from tests.sim.application import ENDPOINTS, Application
from tests.sim.clock import VirtualClock
from tests.sim.cluster import Links
from tests.sim.ladder import Ladder
from tests.sim.machine import REALM, Machine, settings
from tests.sim.media import FIRST_PORT, Speakers
from tests.sim.network import Address, Network
from tests.sim.phone import Phone
from tests.sim.phone_callee import PASSWORD, Callee
from tests.sim.phone_caller import Caller
from tests.sim.process import Mischief
from tests.sim.registration import DOMAIN, Registration
from tests.sim.rest import Client
from tests.sim.store import Server

REGISTERING_FROM = 20_000  # in these seeds phones register, and REST is quicker; those before stay what they were
STORMS_FROM = 40_000  # in these much more goes wrong, and there is much more that can
CLUSTERS_FROM = 60_000  # and in these nodes know of each other, and take over what a dead one had
DRAINS_FROM = 80_000  # and in these nodes are told to end, and hand their calls over
HARD_DRAINS_FROM = 100_000  # and in these what is draining is killed, or loses its store, and links work one way
TRANSFERS_FROM = 120_000  # and in these calls are transferred, and phones tell what comes of it, or do not
REFERRING_FROM = 140_000  # and in these phones ask for transfers themselves, blind and attended
BEGINNING = 1_800_000_000.0  # seconds UTC
PLANS: tuple[tuple[Action, ...], ...] = ((Reject(),), (Ring(), Pause(seconds=3), Answer(), Pause(seconds=3)))


class World:
    """Nodes n1, n2 … at 10.0.0.x, callers at 10.0.1.x, those who are called at 10.0.2.x, all around one store."""

    def __init__(self, seed: int, *, told: bool = False, mischief: Mischief | None = None) -> None:
        """`told`: whether its ladder is kept."""
        self.seed = seed
        self.troubles: list[tuple[float, float]] = []  # when something was wrong: from, to
        self.clock = VirtualClock(BEGINNING)
        self.ladder = Ladder(self.clock, kept=told)
        self.network = Network(self.clock, self.chance("network"), self.ladder, wire.told)
        self.store = Server(self.clock)
        sizes = self.chance("sizes")
        self.machines: list[Machine] = []
        self.phones: list[Phone] = []
        speakers = cast(list[Speakers], self.phones)  # the same list: whoever comes later is heard too
        self.callees = [self._callee(number) for number in range(1, sizes.choice((2, 3, 4)))]
        self.callers = [self._caller(number) for number in range(1, sizes.choice((2, 3, 4, 5)))]
        self.phones += [*self.callers, *self.callees]
        uris = [f"sip:{each.name}@{each.host}:5060" for each in self.callees]
        for callee in self.callees:
            callee.elsewhere = [uri for uri in uris if callee.host not in uri]
        registering = self.chance("registering") if seed >= REGISTERING_FROM else None
        users = {}
        if registering is not None:
            users = {each.name: User(each.name, Ha1(md5=wire.ha1(each.name, REALM, PASSWORD))) for each in self.callees}
            uris += [f"sip:{name}@{DOMAIN}" for name in users]
        nobody = ["sip:nobody@10.0.9.9:5060", "sip:bob1@phones.example"]
        for phone in self.phones if seed >= REFERRING_FROM else ():
            phone.refers_to = uris * 2 + ["sip:nobody@10.0.9.9:5060", "sip:desk@10.0.0.1:5060"]
        self.application = Application(
            clock=self.clock,
            chance=self.chance("application"),
            network=self.network,
            ladder=self.ladder,
            callees=uris * 4 + nobody,
        )
        self.application.connects = seed >= REFERRING_FROM
        self.clustered = seed >= CLUSTERS_FROM
        links = Links(self.clock, self.chance("links"), self.network) if self.clustered else None
        fallback = sizes.choice(PLANS)
        for number in range(1, sizes.choice((2, 2, 3, 4) if seed < DRAINS_FROM else (2, 3, 3, 4))):
            host = f"10.0.0.{number}"
            self.machines.append(
                Machine(
                    settings(host, f"n{number}", ENDPOINTS, fallback, users, transfers=seed >= REFERRING_FROM),
                    host,
                    clock=self.clock,
                    chance=self.chance(f"n{number}"),
                    network=self.network,
                    store=self.store,
                    post=self.application.post,
                    ladder=self.ladder,
                    speakers=speakers,
                    links=links,
                    mischief=mischief,
                )
            )
        if sizes.random() < 0.1:
            for machine in self.machines:
                machine.workers.room = 2
        servers = [machine.address for machine in self.machines]
        self.registrations = [
            Registration(each, servers, password=PASSWORD) for each in self.callees if each.name in users
        ]
        for registration in self.registrations if registering is not None else ():
            self.clock.later(registering.uniform(0.1, 10.0), registration.begin)
        self.rest = Client(
            clock=self.clock,
            chance=self.chance("rest"),
            network=self.network,
            ladder=self.ladder,
            machines=self.machines,
            application=self.application,
            transfers=seed >= TRANSFERS_FROM,
        )
        if registering is not None:
            self.application.on_told = self.rest.react
        for machine in self.machines:
            machine.start()

    def chance(self, name: str) -> Random:
        """Dice of its own for each part, so that one more throw of one changes no other."""
        return Random(f"{self.seed}/{name}")

    def calm(self, since: float, until: float) -> bool:
        """Whether nothing was wrong in that time."""
        return not any(begin <= until and since <= end for begin, end in self.troubles)

    def _callee(self, number: int) -> Callee:
        name = f"bob{number}"
        chance = self.chance(name)
        return Callee(
            name,
            f"10.0.2.{number}",
            clock=self.clock,
            network=self.network,
            chance=chance,
            air=self,
            guarded=chance.random() < 0.2,
        )

    def _caller(self, number: int) -> Caller:
        name = f"ann{number}"
        return Caller(
            name,
            f"10.0.1.{number}",
            clock=self.clock,
            network=self.network,
            chance=self.chance(name),
            air=self,
        )

    def is_open(self, there: Address, host: str) -> bool:
        """Whether a phone at `host` hears somebody who is at this address (`tests.sim.dialog.Air`)."""
        if not self.network.reaches(there[0], host):
            return False
        for machine in self.machines:
            if machine.address[0] == there[0]:
                return there[1] >= FIRST_PORT and machine.workers.is_open(there[1])
        return any(phone.host == there[0] for phone in self.phones)
