"""One run, from its seed to what was wrong with it: calls and faults for a minute, quiet, a look at who thinks what, the
end of all calls, quiet, and a look at what is left.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from functools import partial
from random import Random

from structlog.testing import capture_logs

from tests.sim import faults, invariants
from tests.sim.phone_callee import PASSWORD
from tests.sim.phone_caller import call_later
from tests.sim.process import Mischief
from tests.sim.world import HARD_DRAINS_FROM, STORMS_FROM, World

QUIET_S = 110.0  # after the last fault: every transaction is over, silent media has been noticed, and retries have come
FAREWELL_S = 200.0  # after the last hang-up: the same, and the last webhook
WATCH_EACH_S = 1.0


@dataclass
class Run:
    """What came of a seed."""

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    calls: int = 0
    answered: int = 0
    datagrams: int = 0
    webhooks: int = 0
    ladder: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = [*self.ladder, ""] if self.ladder else []
        wrong = [f"  - {violation}" for violation in self.violations] or ["  nothing"]
        return "\n".join(
            [
                *told,
                f"seed {self.seed}: {self.calls} calls, {self.answered} answered, {self.datagrams} datagrams, "
                f"{self.webhooks} webhooks",
                f"faults: {'; '.join(self.faults) or 'none'}",
                "what is wrong:",
                *wrong,
            ]
        )


def run(seed: int, *, told: bool = False, mischief: Mischief | None = None) -> Run:
    """Run one seed. `told`: keep its ladder; `mischief`: a planted bug."""
    world = World(seed, told=told, mischief=mischief)
    came = Run(seed)
    try:
        with capture_logs() as logs:
            _live(world, came)
        came.violations += [str(each) for each in logs if each["log_level"] in ("error", "critical")]
    except Exception:  # noqa: BLE001 -- whatever a node does not bear is what we are looking for
        came.violations.append(traceback.format_exc())
    came.datagrams, came.webhooks = world.network.carried, len(world.application.received)
    started = {each.call for each in world.application.received if each.type.startswith("call.")}
    came.calls = len(started)
    came.answered = len({each.call for each in world.application.received if each.type == "call.answered"})
    came.ladder = list(world.ladder.lines())
    return came


def _live(world: World, came: Run) -> None:
    clock = world.clock
    begun = clock.now()
    drawn = faults.draw(world, world.chance("faults"))
    came.faults = [f"{fault.at:.1f} {fault.what}" for fault in drawn]
    faults.plan(world, drawn)
    _plan_calls(world, world.chance("calls"))
    watch = invariants.Watch(world)
    last = max([faults.ACTIVE_S, *[fault.at + fault.length_s for fault in drawn]])
    clock.later(last, partial(setattr, world.rest, "eager", False))
    while clock.now() < begun + last + QUIET_S:
        clock.run(clock.now() + WATCH_EACH_S)
        watch.look()
    came.violations += invariants.agreement(world)
    came.violations += invariants.consistency(world)
    world.ladder.tell("***", "", "everybody hangs up")
    for phone in world.phones:
        phone.hang_up_everything()
    for registration in world.registrations:
        registration.end()
    for call in list(world.application.calls):
        world.rest.hang_up(call)
    clock.run(clock.now() + FAREWELL_S)
    watch.look()
    came.violations += watch.violations
    came.violations += invariants.aftermath(world)


def _plan_calls(world: World, chance: Random) -> None:
    """Who calls whom when, and what REST asks for."""
    clock, rest = world.clock, world.rest
    until = faults.ACTIVE_S
    for caller in world.callers:
        for _ in range(chance.choice((1, 1, 2, 3) if world.seed < STORMS_FROM else (2, 4, 6))):
            call_later(caller, chance.uniform(0.1, until), "desk", chance.choice(world.machines).address)
    for number in range(chance.choice((0, 1, 2, 4))):
        callee = chance.choice(world.callees)
        target = {
            "uri": f"sip:key{number}@{callee.host}:5060",
            "auth": {"username": callee.name, "password": PASSWORD},
        }
        actions = chance.choice(([], [{"action": "pause", "seconds": 3}, {"action": "hangup"}], [{"action": "hold"}]))
        clock.later(chance.uniform(0.1, until), partial(rest.originate, f"key{number}", target, actions))
    commands = (0, 2, 5, 12) if world.seed < HARD_DRAINS_FROM else (5, 15, 30)
    for _ in range(chance.choice(commands)):
        clock.later(chance.uniform(1.0, until + 20.0), rest.command_something)
