"""The soft phone registers, at a registrar that is a raw UDP socket."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator

import pytest

from bridge.ambient import SystemClock, SystemTokens
from bridge.phone import registration
from bridge.phone.softphone import Phone
from bridge.sip.message import Response
from bridge.sip.transaction import Timers
from tests.phone.farend import FarEnd
from tests.support.caller import Message

PASSWORD = "correct horse"
CHALLENGE = 'WWW-Authenticate: Digest realm="here", nonce="{nonce}", algorithm=MD5, qop="auth"{more}\r\n'


@pytest.fixture
async def far() -> AsyncIterator[FarEnd]:
    far = FarEnd()
    await far.open()
    yield far
    far.close()


@pytest.fixture
async def phone() -> AsyncIterator[Phone]:
    phone = _phone(Timers(t1=30.0, t2=30.0))
    await phone.open()
    yield phone
    phone.close()


def _phone(timers: Timers) -> Phone:
    return Phone("alice", clock=SystemClock(), tokens=SystemTokens(), timers=timers)


def aor(far: FarEnd) -> str:
    return f"sip:alice@{far.shown}"


def challenge(far: FarEnd, request: Message, nonce: str = "n1", more: str = "") -> None:
    far.answer(request, 401, "Unauthorized", headers=CHALLENGE.format(nonce=nonce, more=more))


def accept(far: FarEnd, request: Message, expires: int = 600) -> None:
    far.answer(request, 200, "OK", contact=f"{request['contact']};expires={expires}")


def proof(request: Message) -> dict[str, str]:
    """What its Authorization says."""
    return {
        name: quoted or bare
        for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|(\w+))', request["authorization"])
    }


def is_proved(request: Message) -> bool:
    """By hand, as RFC 7616 §3.4.1 has it."""
    said = proof(request)

    def digest(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    one = digest(f"alice:{said['realm']}:{PASSWORD}")
    two = digest(f"REGISTER:{said['uri']}")
    return said["response"] == digest(f"{one}:{said['nonce']}:{said['nc']}:{said['cnonce']}:auth:{two}")


async def test_it_proves_its_password_and_is_registered(far: FarEnd, phone: Phone) -> None:
    made = phone.register(aor(far), password=PASSWORD)
    first = await far.asked("REGISTER")
    assert first.start == f"REGISTER sip:{far.shown} SIP/2.0"
    assert first["to"] == f"<{aor(far)}>"
    assert first["from"].startswith(f"<{aor(far)}>;tag=")
    assert (first["contact"], first["expires"]) == (f"<sip:alice@127.0.0.1:{phone.port}>", "600")
    assert first["authorization"] == ""
    challenge(far, first)
    second = await far.asked("REGISTER", 2)
    assert second["call-id"] == first["call-id"]
    assert (second["cseq"], second["via"] != first["via"]) == ("2 REGISTER", True)
    assert is_proved(second)
    accept(far, second)
    response = await made.answered()
    assert response is not None
    assert response.status == 200


async def test_it_is_taken_back_with_the_nonce_that_is_known(far: FarEnd, phone: Phone) -> None:
    made = phone.register(aor(far), password=PASSWORD)
    challenge(far, await far.asked("REGISTER"))
    accept(far, await far.asked("REGISTER", 2))
    await made.answered()
    ending = asyncio.create_task(made.end())
    last = await far.asked("REGISTER", 3)
    assert (last["expires"], proof(last)["nc"], is_proved(last)) == ("0", "00000002", True)
    far.answer(last, 200)
    response = await ending
    assert response is not None
    assert response.status == 200


async def test_it_is_renewed_before_the_time_is_over_that_was_granted(far: FarEnd, phone: Phone) -> None:
    phone.register(aor(far), password=PASSWORD)
    accept(far, await far.asked("REGISTER"), expires=1)  # half a second: not what was asked for
    assert (await far.asked("REGISTER", 2))["expires"] == "600"


async def test_a_nonce_that_is_too_old_is_replaced(far: FarEnd, phone: Phone) -> None:
    made = phone.register(aor(far), password=PASSWORD)
    challenge(far, await far.asked("REGISTER"))
    challenge(far, await far.asked("REGISTER", 2), "n2", ", stale=true")
    third = await far.asked("REGISTER", 3)
    assert (proof(third)["nonce"], proof(third)["nc"], is_proved(third)) == ("n2", "00000001", True)
    accept(far, third)
    assert await made.answered() is not None


async def test_a_wrong_password_is_not_tried_again_at_once(far: FarEnd, phone: Phone) -> None:
    told: list[Response | None] = []
    made = phone.register(aor(far), password="wrong", told=told.append)
    challenge(far, await far.asked("REGISTER"))
    second = await far.asked("REGISTER", 2)
    assert not is_proved(second)
    challenge(far, second, "n2")
    response = await made.answered()
    assert response is not None
    assert [each.status for each in told if each is not None] == [response.status] == [401]
    assert len(far.all("REGISTER")) == 2


async def test_what_is_too_short_is_asked_for_longer(far: FarEnd, phone: Phone) -> None:
    made = phone.register(aor(far), password=PASSWORD, expires_s=30)
    far.answer(await far.asked("REGISTER"), 423, headers="Min-Expires: 90\r\n")
    second = await far.asked("REGISTER", 2)
    assert second["expires"] == "90"
    far.answer(second, 200, headers="Expires: 90\r\n", contact="<sip:somebody@else>")
    assert await made.answered() is not None


async def test_a_registrar_that_is_away_is_told_and_asked_again(far: FarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "_AGAIN_S", 0.0)
    told: list[Response | None] = []
    phone = _phone(Timers(t1=0.005, t2=0.02, t4=0.02))
    await phone.open()
    made = phone.register(aor(far), password=PASSWORD, told=told.append)
    assert await made.answered() is None
    assert told[0] is None
    await far.asked("REGISTER", 2)
    phone.close()


@pytest.mark.parametrize("uri", ["alice@127.0.0.1", "sips:alice@127.0.0.1", "sip:127.0.0.1:5060"])
async def test_what_cannot_be_registered_is_said(phone: Phone, uri: str) -> None:
    with pytest.raises(ValueError, match=r"SIP URI|UDP|user"):
        phone.register(uri, password=PASSWORD)
