"""`dial` to three targets, at once and one after the other, whatever mix of things they do; and the caller who gives up at each
moment of it.

What is expected is worked out here from the RFC's rules, in a model that shares nothing with the engine: §16.7 says which
failure stands for all, §9.1 who gets a CANCEL, §13.2.2.4 who gets ACK and BYE.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import product

import pytest

from bridge.calls.actions import Dial, Fork, Target
from bridge.calls.facts import CallId
from bridge.sip.message import Request
from tests.engine.callee import Callee
from tests.engine.test_dialing import party_of, told
from tests.engine.world import World, sdp

NUMBERS = (2, 3, 4)
TIMEOUT_S = 20.0
# What a target does: each is over by itself, in the order of the targets.
BUSY, SILENT, EARLY, ANSWER, TWICE, DECLINE = "busy", "silent", "early", "answer", "twice", "decline"
BEHAVIOURS = (BUSY, SILENT, EARLY, ANSWER, TWICE, DECLINE)
MIXES = list(product(BEHAVIOURS, repeat=3))


def all_matters(mix: tuple[str, ...], *, over: tuple[str, ...]) -> bool:
    """Whether each target of a serial search has a turn before that is over; those who have none are silent, so that one mix
    stands for all that are alike."""
    turn = next((place for place, behaviour in enumerate(mix) if behaviour in over), len(mix))
    return all(behaviour == SILENT for behaviour in mix[turn + 1 :])


@dataclass
class Expected:
    """What must be seen of one case."""

    caller: list[str] = field(default_factory=lambda: ["call.incoming"])
    party: list[str] = field(default_factory=lambda: ["call.initiated"])
    invited: list[int] = field(default_factory=list)  # targets, by place
    canceled: set[int] = field(default_factory=set)
    winner: int | None = None
    code: int = 0  # the caller's final response
    byes: list[int] = field(default_factory=lambda: [0, 0, 0])  # by place: the winner's, and dialogs that nobody wants


class Phones:
    """The three of them, and what each has to do yet."""

    def __init__(self, world: World, mix: tuple[str, ...]) -> None:
        self.world = world
        self.all = [Callee(world, number) for number in NUMBERS]
        self.mix = mix

    def act(self, place: int) -> None:
        """One does what it does, if it has been asked and its call is not over."""
        phone, behaviour = self.all[place], self.mix[place]
        if not phone.requests("INVITE") or phone.requests("CANCEL"):
            return
        match behaviour:
            case "busy":
                phone.answer(486)
            case "decline":
                phone.answer(603)
            case "early":
                phone.answer(183, offer=sdp(5000, address=phone.host, formats="0 101"))
            case "answer":
                phone.answer(200)
            case "twice":
                phone.answer(200)
                phone.answer(200, tag="b2")

    def finish(self) -> None:
        """Whoever was canceled says so, once; whoever was hung up on has answered that already."""
        for phone in self.all:
            if phone.requests("CANCEL") and all(each.status < 200 for each in phone.said):
                phone.answer(487)


def parallel(mix: tuple[str, ...]) -> Expected:
    """All ring at once, and do what they do in the order of their places."""
    expected = Expected(invited=[0, 1, 2])
    open_ = {0, 1, 2}
    failures: list[int] = []
    early = False
    for place, behaviour in enumerate(mix):
        if behaviour == BUSY:
            expected.party.append("call.attempt_failed")
            failures.append(486)
            open_.discard(place)
        elif behaviour == DECLINE:
            # §16.7 step 5: he speaks for the party.
            expected.party.append("call.attempt_failed")
            failures.append(603)
            give_up(expected, mix, open_, place)
            open_.clear()
            break
        elif behaviour == EARLY:
            if not early:
                expected.party.append("call.early_media")
                early = True
        elif behaviour in (ANSWER, TWICE):
            expected.winner = place
            expected.byes[place] = 1 + (behaviour == TWICE)
            give_up(expected, mix, open_, place)
            open_.clear()
            break
    if expected.winner is not None:
        return joined(expected)
    # 20 s later: those who are left were silent (408), or rang for too long (408 as well), and are given up.
    for place in sorted(open_):
        expected.party.append("call.attempt_failed")
        failures.append(408)
        if mix[place] == EARLY:
            expected.canceled.add(place)
    return failed(expected, failures)


def give_up(expected: Expected, mix: tuple[str, ...], open_: set[int], place: int) -> None:
    """Those who have said something provisional are canceled; the others as soon as they do (§9.1). An answer that comes all
    the same is acknowledged, and its dialog ended (§13.2.2.4)."""
    expected.canceled = {other for other in open_ - {place} if mix[other] == EARLY}
    for other in open_ - {place}:
        if other > place:
            expected.byes[other] = {ANSWER: 1, TWICE: 2}.get(mix[other], 0)


def serial(mix: tuple[str, ...]) -> Expected:
    """Each has its turn when the one before it has failed."""
    expected = Expected()
    failures: list[int] = []
    early = False
    for place, behaviour in enumerate(mix):
        expected.invited.append(place)
        if behaviour in (ANSWER, TWICE):
            expected.winner = place
            expected.byes[place] = 1 + (behaviour == TWICE)
            return joined(expected)
        if behaviour == EARLY:
            if not early:
                expected.party.append("call.early_media")
                early = True
            expected.canceled.add(place)
        expected.party.append("call.attempt_failed")
        failures.append({BUSY: 486, DECLINE: 603}.get(behaviour, 408))
        if behaviour == DECLINE:
            break
    return failed(expected, failures)


def joined(expected: Expected) -> Expected:
    expected.party += ["call.answered", "call.joined", "call.ended"]
    expected.caller += ["call.answered", "call.joined", "call.ended"]
    expected.code = 200
    return expected


def failed(expected: Expected, failures: list[int]) -> Expected:
    """§16.7 step 6: a 6xx before all; silence says the least."""
    expected.code = min(failures, key=lambda code: (code != 603, code == 408, code))
    expected.party.append("call.ended")
    expected.caller.append("call.ended")
    return expected


def test_the_model_knows_some_cases_by_heart() -> None:
    """The model itself, against cases that were worked out by hand."""
    busy = parallel((BUSY, BUSY, BUSY))
    assert (busy.code, busy.party) == (486, ["call.initiated", *["call.attempt_failed"] * 3, "call.ended"])
    declined = serial((SILENT, DECLINE, ANSWER))
    assert (declined.code, declined.invited, declined.winner) == (603, [0, 1], None)
    early = parallel((EARLY, SILENT, ANSWER))
    assert (early.canceled, early.winner) == ({0}, 2)
    assert early.party == ["call.initiated", "call.early_media", "call.answered", "call.joined", "call.ended"]
    assert serial((SILENT, SILENT, BUSY)).code == 486


def dial(mix: tuple[str, ...], fork: Fork) -> tuple[World, Phones]:
    world = World()
    phones = Phones(world, mix)
    world.reply = (Dial(to=tuple(Target(each.uri) for each in phones.all), fork=fork, timeout_s=TIMEOUT_S),)
    world.invite()
    return world, phones


def finals(world: World) -> list[int]:
    """What the caller was answered in the end, however often that was repeated."""
    return list(dict.fromkeys(status for status in world.statuses if status >= 200))


def check(world: World, phones: Phones, party: CallId) -> None:
    """What holds of every case, once it is over."""
    phones.finish()
    world.advance(64.0)
    assert world.leftovers() == {}
    for call in (world.call_id, party):
        events = world.stored_events(call)
        assert [sequence for sequence, _ in events] == list(range(1, len(events) + 1))
        types = [body["type"] for _, body in events]
        assert types.count("call.ended") == 1
        assert types[-1] == "call.ended"
        assert types == told(world, call)
    for phone in phones.all:
        for invite in phone.requests("INVITE"):
            settled(phone, invite)


def settled(phone: Callee, invite: Request) -> None:
    """An INVITE was answered finally and acknowledged, or canceled, or nobody was ever heard; what it began has been ended."""
    said = [each for each in phone.said if each.cseq.method == "INVITE"]
    last = {(each.to_tag, each.status) for each in said if each.status >= 200}
    acknowledged = {each.to_tag for each in phone.got if each.method == "ACK"}
    assert {tag for tag, _ in last} <= acknowledged
    provisional = any(100 < each.status < 200 for each in said)
    if provisional and not last:
        assert phone.requests("CANCEL"), "rings, and nobody tells it that it need not"
    for request in phone.requests("CANCEL"):
        assert (request.via.branch, request.cseq.number) == (invite.via.branch, invite.cseq.number)
    begun = {tag for tag, status in last if status < 300}
    byes = [each.to_tag for each in phone.requests("BYE")]
    assert Counter(byes) == Counter(begun)


@pytest.mark.parametrize(
    ("fork", "mix"),
    [
        *[pytest.param("parallel", mix, marks=(pytest.mark.slow,) * (DECLINE in mix)) for mix in MIXES],
        *[("serial", mix) for mix in MIXES if all_matters(mix, over=(ANSWER, TWICE, DECLINE))],
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_every_mix(mix: tuple[str, ...], fork: Fork) -> None:
    expected = parallel(mix) if fork == "parallel" else serial(mix)
    world, phones = dial(mix, fork)
    party = party_of(world)
    for place in range(3):
        phones.act(place)
        if fork == "serial" and mix[place] in (SILENT, EARLY) and phones.all[place].got:
            world.advance(TIMEOUT_S)
            phones.finish()
    if expected.winner is not None:
        world.ack()
        world.bye()
    elif fork == "parallel":
        world.advance(TIMEOUT_S)
    check(world, phones, party)
    assert told(world, world.call_id) == expected.caller
    assert told(world, party) == expected.party
    assert [place for place in range(3) if phones.all[place].got] == expected.invited
    assert {place for place in range(3) if phones.all[place].requests("CANCEL")} == expected.canceled
    assert finals(world) == [expected.code]
    assert [len(phone.requests("BYE")) for phone in phones.all] == expected.byes


# The caller gives up: before anybody has said anything, and after each of what the three do, one after the other.


@pytest.mark.parametrize("moment", range(4))
@pytest.mark.parametrize(
    ("fork", "mix"),
    [
        *[("parallel", mix) for mix in product((BUSY, SILENT, EARLY), repeat=3)],
        *[
            ("serial", mix)
            for mix in product((BUSY, SILENT, EARLY), repeat=3)
            if all_matters(mix, over=(SILENT, EARLY))
        ],
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_the_caller_gives_up_at_each_moment(mix: tuple[str, ...], fork: Fork, moment: int) -> None:
    world, phones = dial(mix, fork)
    party = party_of(world)
    for place in range(moment):
        phones.act(place)
    over = told(world, party)[-1] == "call.ended"
    rings = {place for place in range(moment) if mix[place] == EARLY and phones.all[place].got}
    world.cancel()
    assert {place for place in range(3) if phones.all[place].requests("CANCEL")} == (set() if over else rings)
    for place in range(3):
        phone = phones.all[place]
        if phone.got and not phone.said:  # it had not said anything: the CANCEL follows its first word
            phone.answer(180)
            assert bool(phone.requests("CANCEL"))
    check(world, phones, party)
    assert told(world, party).count("call.attempt_failed") == sum(
        1 for place in range(moment) if mix[place] == BUSY and phones.all[place].got
    )
    assert finals(world) == [486 if over else 487]
    assert world.stored_events()[-1][1]["data"]["ended"]["reason"] == ("busy" if over else "canceled")


@pytest.mark.parametrize("written", [True, False], ids=["stored", "not stored yet"])
@pytest.mark.parametrize("moment", ["the party has answered", "the 200 has left", "the ACK has come"])
def test_the_caller_gives_up_once_somebody_is_there(moment: str, written: bool) -> None:
    """§9.1: a CANCEL comes too late once our 2xx has left; before that it ends the caller, and whoever has answered."""
    world, phones = dial((ANSWER, SILENT, SILENT), "parallel")
    party = party_of(world)
    if moment == "the party has answered":
        world.opening = False  # the caller's own ports are not there yet
    world.committing = written
    phones.act(0)
    if moment == "the ACK has come":
        world.commit_all()
        world.ack()
        world.committing = written
    world.cancel()
    world.commit_all()
    world.open_ports()
    answered_ = moment != "the party has answered" and (written or moment == "the ACK has come")
    assert finals(world) == [200 if answered_ else 487]
    if answered_:
        if moment != "the ACK has come":
            world.ack()
        world.bye()
    world.commit_all()
    for phone in phones.all[1:]:
        phone.answer(100)  # and so each of them is canceled
        assert phone.requests("CANCEL")
    check(world, phones, party)
    assert len(phones.all[0].requests("BYE")) == 1


@pytest.mark.parametrize("mix", list(product((BUSY, EARLY, ANSWER, TWICE), repeat=2)), ids="-".join)
@pytest.mark.parametrize("fork", ["parallel", "serial"])
@pytest.mark.parametrize(
    ("moment", "applied"),
    [
        (2, 0),
        (2, 1),
        *[pytest.param(*each, marks=pytest.mark.slow) for each in ((0, 0), (0, 9), (1, 0), (1, 1), (1, 9), (2, 9))],
    ],
)
def test_the_process_dies_at_each_moment(mix: tuple[str, ...], fork: Fork, applied: int, moment: int) -> None:
    """Whatever was written by then, both calls end once, and whoever is still called hears of it."""
    world, phones = dial((*mix, SILENT), fork)
    party = party_of(world)
    for place in range(moment):
        if place == moment - 1:
            world.committing = False
        phones.act(place)
    heir = world.restart(applied=applied)
    phones.world = heir
    for phone in phones.all:
        phone.world = heir
    for place in range(2):
        if phones.mix[place] == BUSY and place < moment:
            phones.act(place)  # a user agent server repeats what it said last (§17.2.1)
        elif phones.mix[place] in (ANSWER, TWICE):
            phones.act(place)
    heir.advance(2 * TIMEOUT_S + 1.0)
    if heir.responses(200):
        heir.ack()
        heir.bye(sequence=3)
    phones.finish()
    heir.advance(200.0)
    assert heir.leftovers() == {}
    for call in (heir.call_id, party):
        events = heir.stored_events(call)
        assert [sequence for sequence, _ in events] == list(range(1, len(events) + 1))
        assert [body["type"] for _, body in events].count("call.ended") == 1
        assert events[-1][1]["type"] == "call.ended"
