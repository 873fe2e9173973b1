"""What goes wrong in a run: drawn from the seed, each thing with its beginning and, where it has one, its end.

A run has a climate, a few kinds of faults that it knows, so that runs differ in more than their dice. What no promise covers
is not drawn: a store that loses data while a process is dead takes the only copy there was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from tests.sim.application import HOST as APPLICATION
from tests.sim.application import Mood
from tests.sim.network import Weather
from tests.sim.world import DRAINS_FROM, HARD_DRAINS_FROM, STORMS_FROM, World

ACTIVE_S = 60.0  # for how long things go wrong
KINDS = ("weather", "partition", "kill", "pause", "endpoint", "slow", "away", "replies", "forget", "media", "cut off")
AFTERWARDS_S = 10.0  # for as long after a fault nobody is blamed for what does not come
APART_S = 15.0  # between a death and a loss of data: long enough for everything to have been said again


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    at: float  # seconds from the beginning
    length_s: float  # 0: it is over at once
    what: str
    begin: Callable[[], None]
    end: Callable[[], None] | None = None


def draw(world: World, chance: Random) -> list[Fault]:
    """The faults of one run, in order of time."""
    kinds, times = ((0, 1, 1, 2, 2, 3, 4), (1, 1, 2, 3))
    if world.seed >= STORMS_FROM:
        kinds, times = (2, 3, 4, 6), (1, 3, 5, 7)
    climate = chance.sample(KINDS, chance.choice(kinds))
    faults = [
        _MAKERS[kind](world, chance, chance.uniform(0.5, ACTIVE_S))
        for kind in climate
        for _ in range(chance.choice(times))
    ]
    if world.seed >= DRAINS_FROM:
        faults += [_drain(world, chance, chance.uniform(5.0, ACTIVE_S)) for _ in range(chance.choice((1, 2, 4)))]
    if world.seed >= HARD_DRAINS_FROM:
        for make in (_drain_killed, _drain_alone, *([_one_way] if len(world.machines) > 1 else [])):
            faults += [make(world, chance, chance.uniform(3.0, ACTIVE_S)) for _ in range(chance.choice((0, 1, 1, 2)))]
    faults.sort(key=lambda fault: fault.at)
    return _possible(faults)


def plan(world: World, faults: list[Fault]) -> None:
    """Let them happen."""
    for fault in faults:
        world.clock.later(fault.at, partial(_begin, world, fault))


def _begin(world: World, fault: Fault) -> None:
    now = world.clock.now()
    world.troubles.append((now, now + fault.length_s + AFTERWARDS_S))
    world.ladder.tell("***", "", f"{fault.what} for {fault.length_s:.2f} s" if fault.length_s else fault.what)
    fault.begin()
    if fault.end is not None:
        world.clock.later(fault.length_s, partial(_end, world, fault))


def _end(world: World, fault: Fault) -> None:
    world.ladder.tell("***", "", f"no more: {fault.what}")
    if fault.end is not None:
        fault.end()


def _possible(faults: list[Fault]) -> list[Fault]:
    """Without losses of data that come too near to a death, or to a store that is away for another reason."""
    kept = []
    for fault in faults:
        others = [each for each in faults if each is not fault]
        near = [
            each
            for each in others
            if each.at - APART_S < fault.at + fault.length_s and fault.at < each.at + each.length_s + APART_S
        ]
        if fault.what.startswith("store forgets") and any(_takes_the_copy(each) for each in near):
            continue
        kept.append(fault)
    return kept


def _takes_the_copy(fault: Fault) -> bool:
    return fault.what.startswith(("kill", "end", "store", "pause", "cut off"))


# One kind each


def _weather(world: World, chance: Random, at: float) -> Fault:
    network = world.network
    bad = Weather(
        loss=chance.choice((0.0, 0.05, 0.15, 0.3)),
        doubling=chance.choice((0.0, 0.1, 0.3)),
        stray=chance.choice((0.0, 0.1, 0.4)),
        detour_s=chance.choice((0.2, 1.0, 3.0)),
    )

    def begin() -> None:
        network.weather = bad

    def end() -> None:
        network.weather = Weather()

    told = f"weather: {bad.loss:.0%} lost, {bad.doubling:.0%} doubled, {bad.stray:.0%} late by {bad.detour_s} s"
    return Fault(at / 4, chance.uniform(10.0, ACTIVE_S), told, begin, end)


def _partition(world: World, chance: Random, at: float) -> Fault:
    machine, phone = chance.choice(world.machines), chance.choice(world.phones)
    pair, name = (machine.address[0], phone.host), phone.name
    if world.clustered and len(world.machines) > 1 and chance.random() < 0.5:
        other = chance.choice([each for each in world.machines if each is not machine])
        pair, name = (machine.address[0], other.address[0]), other.name
    return Fault(
        at,
        chance.choice((0.5, 3.0, chance.uniform(1.0, 40.0))),
        f"partition: {machine.name} and {name}",
        lambda: world.network.cut(*pair),
        lambda: world.network.mend(*pair),
    )


def _kill(world: World, chance: Random, at: float) -> Fault:
    machine = chance.choice(world.machines)
    back = chance.choice((0.1, 0.5, 1.0, chance.uniform(0.2, 8.0)))
    if world.clustered and chance.random() < 0.5:
        back = chance.uniform(8.0, 40.0)
    return Fault(at, back, f"kill {machine.name}", lambda: machine.kill(back), lambda: None)


def _drain(world: World, chance: Random, at: float) -> Fault:
    machine, back = chance.choice(world.machines), chance.uniform(0.5, 20.0)
    return Fault(at, back, f"end {machine.name}", lambda: machine.stop(back), lambda: None)


def _drain_killed(world: World, chance: Random, at: float) -> Fault:
    """In the middle of its drain."""
    machine, length = chance.choice(world.machines), chance.choice((0.05, 0.2, 0.5, 1.0, 2.0, 5.0))
    back = chance.choice((0.2, 1.0, chance.uniform(1.0, 30.0)))
    told = f"end {machine.name}, and kill it meanwhile"
    return Fault(at, length, told, lambda: machine.stop(length + back), lambda: machine.kill(back))


def _drain_alone(world: World, chance: Random, at: float) -> Fault:
    """The store is away before it has handed everything over, or has done so and its answers are lost."""
    machine, store, later = chance.choice(world.machines), world.store, chance.choice((0.0, 0.05, 0.2, 0.5, 1.0))
    length, back = chance.choice((0.3, 1.0, 3.0, 8.0)), chance.uniform(0.5, 10.0)
    goes = chance.random() < 0.5

    def begin() -> None:
        machine.stop(back)
        world.clock.later(later, store.go_away if goes else partial(store.lose_replies, 3))

    def end() -> None:
        if goes:
            store.come_back()

    return Fault(at, later + length, f"store and {machine.name}: it ends, and the store is away", begin, end)


def _one_way(world: World, chance: Random, at: float) -> Fault:
    """What one node sends another does not arrive, and what it is sent does."""
    source, destination = chance.sample(world.machines, 2)
    way = (source.address[0], destination.address[0])
    return Fault(
        at,
        chance.choice((1.0, 5.0, chance.uniform(1.0, 40.0))),
        f"partition: {source.name} to {destination.name}, one way",
        lambda: world.network.cut_way(*way),
        lambda: world.network.mend_way(*way),
    )


def _pause(world: World, chance: Random, at: float) -> Fault:
    machine = chance.choice(world.machines)
    stopped = []

    def begin() -> None:
        process = machine.process
        if process is not None and process.alive and not process.standing_still:
            process.stand_still()
            stopped.append(process)

    def end() -> None:
        for process in stopped:
            process.go_on()

    length = chance.choice((0.05, 0.3, 1.0, chance.uniform(0.5, 12.0)))
    return Fault(at, length, f"pause {machine.name}", begin, end)


def _endpoint(world: World, chance: Random, at: float) -> Fault:
    moods = world.application.moods
    names = chance.choice((["desk"], ["log"], ["desk", "log"]))
    mood = chance.choice((Mood.DOWN, Mood.SLOW, Mood.NONSENSE))

    def begin() -> None:
        moods.update(dict.fromkeys(names, mood))

    def end() -> None:
        moods.update(dict.fromkeys(names, Mood.WELL))

    return Fault(at, chance.uniform(1.0, 30.0), f"{' and '.join(names)}: {mood}", begin, end)


def _slow(world: World, chance: Random, at: float) -> Fault:
    latency = chance.choice((0.05, 0.3, 0.9, 2.5))
    return Fault(
        at,
        chance.uniform(1.0, 20.0),
        f"store takes {latency} s",
        lambda: world.store.slow(latency),
        world.store.slow,
    )


def _away(world: World, chance: Random, at: float) -> Fault:
    length = chance.choice((0.2, 1.0, 3.0, chance.uniform(1.0, 20.0)))
    return Fault(at, length, "store is away", world.store.go_away, world.store.come_back)


def _replies(world: World, chance: Random, at: float) -> Fault:
    count = chance.randint(1, 3)
    return Fault(at, 0.0, f"store loses {count} replies", lambda: world.store.lose_replies(count))


def _forget(world: World, chance: Random, at: float) -> Fault:
    seconds = chance.choice((0.05, 0.5, 2.0, 4.0))
    everything = chance.random() < 0.5

    def begin() -> None:
        world.store.go_away()
        if everything:
            world.store.empty()
        else:
            world.store.roll_back(seconds)

    what = "everything" if everything else f"the last {seconds} s"
    return Fault(at, chance.uniform(0.1, 3.0), f"store forgets {what}", begin, world.store.come_back)


def _media(world: World, chance: Random, at: float) -> Fault:
    machine, back = chance.choice(world.machines), chance.uniform(0.2, 2.0)
    return Fault(at, back, f"media workers of {machine.name} die", lambda: machine.workers.die(back), lambda: None)


def _cut_off(world: World, chance: Random, at: float) -> Fault:
    """One node does not reach the store, or the application, while others do."""
    machine = chance.choice(world.machines)
    length = chance.choice((0.5, 2.5, chance.uniform(1.0, 20.0)))
    if chance.random() < 0.5:
        pair = machine.address[0], APPLICATION
        return Fault(
            at,
            length,
            f"partition: {machine.name} and the application",
            lambda: world.network.cut(*pair),
            lambda: world.network.mend(*pair),
        )
    links = []

    def begin() -> None:
        if machine.process is not None and machine.process.alive:
            links.append(machine.process.link)
            machine.process.link.cut()

    def end() -> None:
        for link in links:
            link.mend()

    return Fault(at, length, f"cut off from the store: {machine.name}", begin, end)


_MAKERS: dict[str, Callable[[World, Random, float], Fault]] = {
    "weather": _weather,
    "partition": _partition,
    "kill": _kill,
    "pause": _pause,
    "endpoint": _endpoint,
    "slow": _slow,
    "away": _away,
    "replies": _replies,
    "forget": _forget,
    "media": _media,
    "cut off": _cut_off,
}
