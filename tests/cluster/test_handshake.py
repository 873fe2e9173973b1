"""The handshake, both sides of it: who is let in, who is not, and that nothing recorded fits again."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cluster import handshake
from bridge.cluster.handshake import MAJOR, Accepting, Dialing, Handshake, Keys, Outcome, Proven, Refused, Say

SECRET = b"the secret of the cluster"
_numbers = count()


def nonce() -> bytes:
    return next(_numbers).to_bytes(32, "big")


def dialing(*, secret: bytes = SECRET, owner: str = "a:1", wanted: str = "b:1") -> Dialing:
    return Dialing(Keys(secret), owner=owner, wanted=wanted, nonce=nonce())


def accepting(*, secret: bytes = SECRET, owner: str = "b:1", leased: frozenset[str] = frozenset({"a:1"})) -> Accepting:
    return Accepting(Keys(secret), owner=owner, nonce=nonce(), is_leased=leased.__contains__)


def said(outcomes: tuple[Outcome, ...]) -> bytes:
    (payload,) = [each.payload for each in outcomes if isinstance(each, Say)]
    return payload


def meet(one: Handshake, other: Handshake) -> tuple[list[Outcome], list[Outcome], list[bytes]]:
    """What has come of it for the one that dialed, for the other one, and all that was said."""
    ends: tuple[list[Outcome], list[Outcome]] = ([], [])
    wire: list[bytes] = []
    other.begin()
    outcomes, turn = one.begin(), 0
    while outcomes:
        ends[turn].extend(each for each in outcomes if not isinstance(each, Say))
        spoken = [each.payload for each in outcomes if isinstance(each, Say)]
        wire += spoken
        turn = 1 - turn
        listener = (one, other)[turn]
        if not spoken or (ends[turn] and isinstance(ends[turn][-1], Refused)):
            break
        outcomes = listener.step(spoken[0])
    return *ends, wire


def refusal(outcomes: list[Outcome] | tuple[Outcome, ...]) -> str:
    (refused,) = [each for each in outcomes if isinstance(each, Refused)]
    return refused.reason


def test_both_are_let_in_with_the_keys_of_both_directions() -> None:
    ours, theirs, wire = meet(dialing(), accepting())
    (a,), (b,) = ours, theirs
    assert isinstance(a, Proven)
    assert isinstance(b, Proven)
    assert (a.owner, b.owner) == ("b:1", "a:1")
    assert (a.sending, a.receiving) == (b.receiving, b.sending)
    assert a.sending != a.receiving
    assert not any(SECRET in each for each in wire)


def test_keys_are_new_each_time() -> None:
    (first,), _, _ = meet(dialing(), accepting())
    (second,), _, _ = meet(dialing(), accepting())
    assert isinstance(first, Proven)
    assert isinstance(second, Proven)
    assert len({first.sending, first.receiving, second.sending, second.receiving}) == 4


def test_another_secret_opens_nothing() -> None:
    ours, theirs, wire = meet(dialing(secret=b"a guess"), accepting())
    assert (ours, refusal(theirs)) == ([], "unproven")
    assert len(wire) == 3  # no verdict: who guesses is told nothing


def test_whoever_answers_must_have_the_secret_too() -> None:
    dialer, impostor = dialing(), accepting()
    proof = said(dialer.step(said(impostor.step(said(dialer.begin())))))
    verdict = bytearray(said(impostor.step(proof)))
    verdict[-1] ^= 1
    assert refusal(dialer.step(bytes(verdict))) == "unproven"


def test_a_verdict_is_not_another_one() -> None:
    dialer, other = dialing(wanted="b:2"), accepting()
    proof = said(dialer.step(said(other.step(said(dialer.begin())))))
    verdict = bytearray(said(other.step(proof)))
    verdict[1] = 0  # welcome
    assert refusal(dialer.step(bytes(verdict))) == "unproven"


def test_another_incarnation_is_not_who_was_sought_and_both_know() -> None:
    ours, theirs, _ = meet(dialing(), accepting(owner="b:2"))
    assert (refusal(ours), refusal(theirs)) == ("wrong_node", "wrong_node")


@pytest.mark.parametrize("owner", ["stranger:1", "a:2", "b:1", ""])
def test_who_holds_no_lease_is_refused_and_so_are_we_ourselves(owner: str) -> None:
    ours, theirs, _ = meet(dialing(owner=owner), accepting(leased=frozenset({"a:1", "b:1"})))
    assert (refusal(ours), refusal(theirs)) == ("not_leased", "not_leased")


def test_what_was_recorded_fits_no_other_challenge() -> None:
    _, (proven,), (hello, _, proof, _) = meet(dialing(), accepting())
    assert isinstance(proven, Proven)
    again = accepting()
    again.step(hello)
    assert refusal(again.step(proof)) == "unproven"


def test_a_dialer_hears_nothing_from_itself() -> None:
    """Its own words sent back are no answer: each side has its own."""
    one, other = dialing(owner="a:1", wanted="b:1"), dialing(owner="b:1", wanted="a:1")
    assert refusal(one.step(said(other.begin()))) == "malformed"
    fresh, acceptor = dialing(), accepting()
    proof = said(fresh.step(said(acceptor.step(said(fresh.begin())))))
    assert refusal(fresh.step(proof)) == "malformed"


def test_another_major_version_is_refused_by_both(monkeypatch: pytest.MonkeyPatch) -> None:
    hello = bytearray(said(dialing().begin()))
    hello[11] = MAJOR + 1
    old = accepting()
    outcomes = old.step(bytes(hello))
    assert refusal(outcomes) == "version"
    challenge = bytearray(said(outcomes))  # which tells the newer one why
    challenge[1] = MAJOR + 1
    dialer = dialing()
    dialer.begin()
    assert refusal(dialer.step(bytes(challenge))) == "version"


def test_a_later_minor_version_that_says_more_is_let_in() -> None:
    class Later(Dialing):
        def begin(self) -> tuple[Outcome, ...]:
            hello = bytearray(self._hello)
            hello[12] = handshake.MINOR + 1
            self._hello = bytes(hello) + b"\0a field\0another"
            return super().begin()

    ours, theirs, _ = meet(Later(Keys(SECRET), owner="a:1", wanted="b:1", nonce=nonce()), accepting())
    assert isinstance(ours[0], Proven)
    assert isinstance(theirs[0], Proven)
    assert theirs[0].minor == handshake.MINOR


@given(st.binary(min_size=1, max_size=200))
def test_no_payload_makes_either_side_raise(payload: bytes) -> None:
    begun, waiting = dialing(), accepting()
    challenge = said(waiting.step(said(begun.begin())))
    proving = dialing()
    proving.begin()
    proving.step(challenge)
    for side in (begun, waiting, proving, accepting()):
        outcomes = side.step(payload)
        assert not any(isinstance(each, Proven) for each in outcomes)


@given(at=st.integers(0, 500), flip=st.integers(1, 255), step=st.integers(0, 3))
def test_nothing_touched_on_the_way_lets_anybody_in(at: int, flip: int, step: int) -> None:
    """Whichever of the four messages it is, never do both sides come to believe that all is well."""
    one, other = dialing(), accepting()
    other.begin()
    outcomes, turn = one.begin(), 0
    believed = 0
    for number in range(4):
        spoken = [each.payload for each in outcomes if isinstance(each, Say)]
        if not spoken:
            break
        payload = bytearray(spoken[0])
        if number == step:
            payload[at % len(payload)] ^= flip
        turn = 1 - turn
        outcomes = (one, other)[turn].step(bytes(payload))
        believed += any(isinstance(each, Proven) for each in outcomes)
        if any(isinstance(each, Refused) for each in outcomes):
            break
    assert believed < 2
