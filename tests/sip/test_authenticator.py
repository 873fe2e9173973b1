"""The server's half of digest: what is taken, what is refused, and what the client is told about it."""

from __future__ import annotations

from bridge.sip.authenticator import Authenticator, Unverified, Verified
from bridge.sip.digest import (
    Algorithm,
    Challenge,
    Credentials,
    Ha1,
    Unanswerable,
    authorize,
    challenges_of,
    make_ha1,
    response_of,
)
from bridge.sip.headers import Headers
from bridge.sip.message import Request, Response

REALM = "example.com"
BOTH = (Algorithm.SHA_256, Algorithm.MD5)
HA1 = make_ha1("alice", REALM, "secret")
MD5_ONLY = Ha1(md5=HA1.md5)


class Registrar:
    """An authenticator that has been up for an hour, and a client that answers its challenges."""

    def __init__(
        self, *, limit: int = 100, secret: bytes = b"cluster", algorithms: tuple[Algorithm, ...] = BOTH
    ) -> None:
        self.now = 1_000_000.0
        self.authenticator = Authenticator(
            secret=secret, realm=REALM, algorithms=algorithms, lifetime_s=300.0, limit=limit
        )
        self.made = 0
        self.challenges()
        self.now += 3600.0

    def challenges(self) -> tuple[Challenge, ...]:
        self.made += 1
        lines = self.authenticator.challenge(f"unique{self.made}", now=self.now)
        return challenges_of(Response(401, "", Headers(lines)))

    def answered(self, challenges: tuple[Challenge, ...], count: int = 1, password: str = "secret") -> Request:
        line = authorize(
            challenges,
            method="REGISTER",
            uri="sip:example.com",
            username="alice",
            password=password,
            nonce_count=count,
            cnonce="c",
        )
        assert not isinstance(line, Unanswerable)
        return Request("REGISTER", "sip:example.com", Headers([line]))

    def read(self, request: Request) -> Credentials:
        given = self.authenticator.credentials(request)
        assert given is not None
        return given

    def verify(self, request: Request, ha1: Ha1 | None = HA1) -> Verified | Unverified:
        return self.authenticator.verify(self.read(request), ha1, method=request.method, now=self.now)


def without_qop(challenges: tuple[Challenge, ...]) -> tuple[Challenge, ...]:
    return tuple(each._replace(qop=()) for each in challenges)


def test_the_right_password_is_taken_with_either_algorithm() -> None:
    registrar = Registrar()
    offered = registrar.challenges()
    assert [each.algorithm for each in offered] == [Algorithm.SHA_256, Algorithm.MD5]
    for challenge in offered:
        assert registrar.verify(registrar.answered((registrar.challenges()[offered.index(challenge)],))) == Verified(
            "alice"
        )


def test_a_session_form_is_as_good() -> None:
    registrar = Registrar()
    session = registrar.challenges()[0]._replace(algorithm=Algorithm.SHA_256_SESS)
    assert registrar.verify(registrar.answered((session,))) == Verified("alice")


def test_an_algorithm_that_was_not_offered_is_none() -> None:
    registrar = Registrar(algorithms=(Algorithm.SHA_256,))
    weaker = registrar.challenges()[0]._replace(algorithm=Algorithm.MD5)
    assert registrar.authenticator.credentials(registrar.answered((weaker,))) is None


def test_a_wrong_password_and_an_unknown_user_are_told_the_same() -> None:
    registrar = Registrar()
    wrong = registrar.verify(registrar.answered(registrar.challenges(), password="guess"))
    unknown = registrar.verify(registrar.answered(registrar.challenges()), None)
    assert wrong == unknown == Unverified("wrong")
    assert not unknown.stale


def test_nobody_knows_the_password_of_an_unknown_user() -> None:
    registrar = Registrar()
    challenge = registrar.challenges()[0]
    # Not even who knows the stand-in that its digest is held against.
    line = authorize(
        [challenge],
        method="REGISTER",
        uri="sip:example.com",
        username="alice",
        password=registrar.authenticator._decoy,
        cnonce="c",
    )
    assert not isinstance(line, Unanswerable)
    request = Request("REGISTER", "sip:example.com", Headers([line]))
    assert registrar.verify(request, None) == Unverified("wrong")


def test_a_user_without_an_ha1_for_the_algorithm_is_not_let_in() -> None:
    registrar = Registrar()
    assert registrar.verify(registrar.answered(registrar.challenges()), MD5_ONLY) == Unverified("wrong")
    assert registrar.verify(registrar.answered(registrar.challenges()[1:]), MD5_ONLY) == Verified("alice")


def test_another_method_needs_another_digest() -> None:
    registrar = Registrar()
    request = registrar.answered(registrar.challenges())
    given = registrar.read(request)
    verdict = registrar.authenticator.verify(given, HA1, method="INVITE", now=registrar.now)
    assert verdict == Unverified("wrong")


def test_a_repetition_is_refused_and_may_be_tried_again_with_a_new_nonce() -> None:
    registrar = Registrar()
    captured = registrar.answered(registrar.challenges())
    assert registrar.verify(captured) == Verified("alice")
    verdict = registrar.verify(captured)
    assert verdict == Unverified("replayed")
    assert verdict.stale


def test_the_nonce_count_has_to_rise() -> None:
    registrar = Registrar()
    challenges = registrar.challenges()
    assert registrar.verify(registrar.answered(challenges, 1)) == Verified("alice")
    assert registrar.verify(registrar.answered(challenges, 5)) == Verified("alice")
    assert registrar.verify(registrar.answered(challenges, 4)) == Unverified("replayed")
    assert registrar.verify(registrar.answered(challenges, 6)) == Verified("alice")


def test_a_count_of_zero_is_none() -> None:
    registrar = Registrar()
    given = registrar.read(registrar.answered(registrar.challenges()))._replace(nc="00000000")
    assert HA1.sha_256 is not None
    from_zero = given._replace(response=response_of(given, HA1.sha_256, method="REGISTER"))
    verdict = registrar.authenticator.verify(from_zero, HA1, method="REGISTER", now=registrar.now)
    assert verdict == Unverified("replayed")


def test_who_counts_nothing_has_a_nonce_for_one_request() -> None:
    registrar = Registrar()
    challenges = without_qop(registrar.challenges())
    assert registrar.verify(registrar.answered(challenges)) == Verified("alice")
    assert registrar.verify(registrar.answered(challenges)) == Unverified("replayed")


def test_an_old_nonce_is_stale_only_for_who_knows_the_password() -> None:
    registrar = Registrar()
    challenges = registrar.challenges()
    registrar.now += 301.0
    assert registrar.verify(registrar.answered(challenges)) == Unverified("stale")
    assert registrar.verify(registrar.answered(challenges, password="guess")) == Unverified("wrong")


def test_nonces_of_others_are_none() -> None:
    registrar = Registrar()
    good = registrar.challenges()[0]
    for nonce in ("", "n", "é" * 60, good.nonce[:-1] + "0", good.nonce.replace("unique", "eunuqi"), good.nonce * 4):
        assert registrar.verify(registrar.answered((good._replace(nonce=nonce),))) == Unverified("stale")
    stranger = Registrar(secret=b"another")
    assert registrar.verify(stranger.answered(stranger.challenges())) == Unverified("stale")


def test_a_nonce_of_another_node_is_good() -> None:
    here, there = Registrar(), Registrar()
    assert here.verify(there.answered(there.challenges())) == Verified("alice")


def test_a_clock_that_is_ahead_a_little_does_no_harm() -> None:
    here, there = Registrar(), Registrar()
    there.now += 4.0
    assert here.verify(there.answered(there.challenges())) == Verified("alice")
    there.now += 60.0
    assert here.verify(there.answered(there.challenges())) == Unverified("stale")


def test_what_was_used_before_a_restart_cannot_be_repeated_after_it() -> None:
    before = Registrar()
    captured = before.answered(before.challenges())
    assert before.verify(captured) == Verified("alice")
    after = Authenticator(secret=b"cluster", realm=REALM, algorithms=BOTH)
    given = after.credentials(captured)
    assert given is not None
    assert after.verify(given, HA1, method="REGISTER", now=before.now + 1) == Unverified("stale")


def test_what_is_forgotten_cannot_be_repeated_either() -> None:
    registrar = Registrar(limit=2)
    captured = []
    for _ in range(3):
        captured.append(registrar.answered(registrar.challenges()))
        registrar.now += 1.0
        assert registrar.verify(captured[-1]) == Verified("alice")
    assert len(registrar.authenticator) == 2
    assert registrar.verify(captured[0]) == Unverified("stale")
    assert registrar.verify(captured[2]) == Unverified("replayed")


def test_nonces_that_are_too_old_are_not_remembered() -> None:
    registrar = Registrar()
    for _ in range(5):
        assert registrar.verify(registrar.answered(registrar.challenges())) == Verified("alice")
    registrar.now += 301.0
    assert registrar.verify(registrar.answered(registrar.challenges())) == Verified("alice")
    assert len(registrar.authenticator) == 1


def test_a_stranger_fills_no_memory() -> None:
    registrar = Registrar()
    for _ in range(50):
        registrar.verify(registrar.answered(registrar.challenges(), password="guess"))
    assert len(registrar.authenticator) == 0
