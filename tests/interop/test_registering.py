"""Phones that register: baresip and SIPp with digest, a captured REGISTER, and a bridge that dies in between."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from typing import Any

import pytest

from tests.support.baresip import Baresip
from tests.support.caller import Caller
from tests.support.phone import Message
from tests.support.scene import Scene
from tests.support.served import KEY, Served
from tests.support.waiting import PATIENCE_S, until, until_awaited

pytestmark = pytest.mark.interop

USERS = {"users": [{"username": "alice", "password": "secret"}]}
ALICE = "sip:alice@127.0.0.1"


async def phone(scene: Scene, bridge: Served, *, password: str = "secret") -> Baresip:
    """baresip with an account, as the README's line has it."""
    return await scene.baresip(f"<sip:alice@127.0.0.1:{bridge.sip_port}>;auth_pass={password};regint=60")


async def registrations(bridge: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await bridge.read("/v1/registrations"))["data"]
    return found


async def rest(bridge: Served, method: str, path: str, **arguments: Any) -> dict[str, Any]:
    """A request to its API that succeeds."""
    async with bridge.rest(method, path, **arguments) as answer:
        assert answer.status in (200, 201), await answer.text()
        content: dict[str, Any] = await answer.json()
        return content


async def test_baresip_registers_calls_and_leaves(scene: Scene) -> None:
    application = await scene.application()
    bridge = await scene.bridge(application, config=USERS)
    baresip = await phone(scene, bridge)
    await baresip.registered()
    created = (await application.event("registration.created"))["data"]
    assert (created["aor"], created["username"]) == (ALICE, "alice")
    (registration,) = await registrations(bridge)
    assert registration["aor"] == ALICE
    assert registration["bindings"][0]["contact"] == created["binding"]["contact"]

    await baresip.command("dial", f"sip:100@127.0.0.1:{bridge.sip_port}")
    await application.event("call.answered")
    incoming = await application.event("call.incoming")
    assert incoming["data"]["call"]["authenticated_as"] == "alice"
    await baresip.command("hangup")
    await application.all_ended(1)

    await baresip.command("quit")
    await application.event("registration.removed")
    assert await registrations(bridge) == []
    application.judge()


async def test_baresip_with_a_wrong_password_stays_out(scene: Scene) -> None:
    application = await scene.application()
    bridge = await scene.bridge(application, store="memory://", config=USERS)
    await phone(scene, bridge, password="guess")
    await until(lambda: bridge.said("authentication_failed"), "its guess is refused")
    assert await registrations(bridge) == []
    failed = bridge.said("authentication_failed")
    assert {line["why"] for line in failed} == {"wrong"}
    assert "guess" not in bridge.log.read_text()


async def test_sipp_registers_many_phones(scene: Scene) -> None:
    application = await scene.application()
    config = {**USERS, "sip": {"registrar": {"contacts_max": 100}}}
    bridge = await scene.bridge(application, config=config)
    run = await scene.sipp(bridge, scenario="register.xml", calls=50, rate=100, user="alice").done()
    assert (run.successful, run.failed) == (50, 0), str(run)
    await application.event("registration.removed", number=50)
    assert await registrations(bridge) == []
    assert application.judge() == {"registration.created": 50, "registration.removed": 50}


async def test_stun_tells_a_phone_where_it_is_seen(scene: Scene) -> None:
    """RFC 5626 §4.4.2: a Binding request to the SIP port."""
    bridge = await scene.bridge(await scene.application(), store="memory://", config=USERS)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as keeper:
        keeper.setblocking(False)
        keeper.bind(("127.0.0.1", 0))
        port = keeper.getsockname()[1]
        identity = b"\x21\x12\xa4\x42" + b"twelve bytes"
        await loop.sock_sendto(keeper, b"\0\1\0\0" + identity, bridge.sip_address)
        answer = await asyncio.wait_for(loop.sock_recv(keeper, 1500), PATIENCE_S)
    xored = (port ^ 0x2112).to_bytes(2, "big") + bytes(a ^ b for a, b in zip((127, 0, 0, 1), identity, strict=False))
    assert answer == b"\1\1\0\x0c" + identity + b"\0\x20\0\x08\0\1" + xored


class Phone:
    """A phone of our own, which can say the same thing twice."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.sequence = 0

    async def say(self, proof: str = "", *, contact: str = "<sip:alice@127.0.0.1:{port}>;expires=60") -> Message:
        self.sequence += 1
        return await self.caller.ask(
            "REGISTER sip:127.0.0.1 SIP/2.0\n"
            "Via: SIP/2.0/UDP 127.0.0.1:{port};branch={branch};rport\n"
            f"Max-Forwards: 70\nFrom: <{ALICE}>;tag={{tag}}\nTo: <{ALICE}>\nCall-ID: {{call_id}}\n"
            f"CSeq: {self.sequence} REGISTER\nContact: {contact}\n{proof}Content-Length: 0\n\n"
        )


def proof(challenge: Message, *, count: int = 1) -> str:
    """Computed here, by RFC 7616 and nothing of ours."""
    said = challenge["www-authenticate"]
    hashed = hashlib.sha256 if "SHA-256" in said else hashlib.md5
    found = re.search(r'nonce="([^"]+)"', said)
    realm = re.search(r'realm="([^"]+)"', said)
    assert found is not None
    assert realm is not None

    def digest(text: str) -> str:
        return hashed(text.encode()).hexdigest()

    ha1 = digest(f"alice:{realm[1]}:secret")
    response = digest(f"{ha1}:{found[1]}:{count:08x}:c:auth:{digest('REGISTER:sip:127.0.0.1')}")
    return (
        f'Authorization: Digest username="alice", realm="{realm[1]}", nonce="{found[1]}", uri="sip:127.0.0.1", '
        f'algorithm={"SHA-256" if hashed is hashlib.sha256 else "MD5"}, qop=auth, nc={count:08x}, cnonce="c", response="{response}"\n'
    )


async def test_a_phone_may_choose_the_stronger_digest(scene: Scene) -> None:
    application = await scene.application()
    config = {**USERS, "sip": {"registrar": {"digest": "SHA-256,MD5"}}}
    bridge = await scene.bridge(application, store="memory://", config=config)
    alice = Phone(await scene.caller(bridge))
    challenge = await alice.say()
    assert ["SHA-256" in each for each in challenge.all("www-authenticate")] == [True, False]
    assert (await alice.say(proof(challenge))).status == 200


async def test_a_captured_register_is_refused_and_a_new_count_is_not(scene: Scene) -> None:
    application = await scene.application()
    bridge = await scene.bridge(application, store="memory://", config=USERS)
    alice, thief = Phone(await scene.caller(bridge)), Phone(await scene.caller(bridge))
    challenge = await alice.say()
    captured = proof(challenge)
    assert (await alice.say(captured)).status == 200
    again = await thief.say(captured, contact="<sip:thief@127.0.0.1:9>")
    assert again.status == 401
    assert all("stale=true" in each for each in again.all("www-authenticate"))
    assert (await alice.say(proof(challenge, count=2))).status == 200
    (registration,) = await registrations(bridge)
    assert ["thief" in each["contact"] for each in registration["bindings"]] == [False] * len(registration["bindings"])
    metrics = await bridge.metrics()
    assert metrics['bridge_authentications_failed_total{reason="replayed"}'] == 1


async def test_a_nonce_that_is_too_old_is_told_so(scene: Scene) -> None:
    application = await scene.application()
    config = {**USERS, "sip": {"registrar": {"nonce_lifetime_s": 0.05}}}
    bridge = await scene.bridge(application, store="memory://", config=config)
    alice = Phone(await scene.caller(bridge))
    challenge = await alice.say()

    async def is_stale() -> bool:
        answer = await alice.say(proof(challenge))
        return answer.status == 401 and "stale=true" in answer["www-authenticate"]

    await until_awaited(is_stale, "the nonce is stale")


async def test_a_binding_that_nobody_renews_expires(scene: Scene) -> None:
    application = await scene.application()
    config = {**USERS, "sip": {"registrar": {"min_expires_s": 1}}}
    bridge = await scene.bridge(application, config=config)
    alice = Phone(await scene.caller(bridge))
    contact = "<sip:alice@127.0.0.1:{port}>;expires=1"
    assert (await alice.say(proof(await alice.say(contact=contact)), contact=contact)).status == 200
    expired = await application.event("registration.expired")
    assert expired["data"]["sequence"] == 2
    assert await registrations(bridge) == []


async def test_two_phones_at_one_address(scene: Scene) -> None:
    application = await scene.application()
    bridge = await scene.bridge(application, config=USERS)
    phones = [Phone(await scene.caller(bridge)) for _ in range(2)]
    for each in phones:
        answer = await each.say(proof(await each.say()))
    assert len(answer.all("contact")) == 2
    (registration,) = await registrations(bridge)
    assert len(registration["bindings"]) == 2
    gone = await rest(bridge, "DELETE", f"/v1/registrations/{ALICE}")
    assert gone["removed"] == 2
    assert await registrations(bridge) == []


async def test_users_made_by_rest_register_and_survive(scene: Scene) -> None:
    application = await scene.application()
    redis = await scene.redis()
    bridge = await scene.bridge(application, store=redis.url, config=_as_admin())
    assert (await rest(bridge, "PUT", "/v1/users/alice", json={"password": "secret"}))["source"] == "api"
    alice = Phone(await scene.caller(bridge))
    assert (await alice.say(proof(await alice.say()))).status == 200
    bridge.kill()
    await bridge.start()
    alice = Phone(await scene.caller(bridge))
    assert (await alice.say(proof(await alice.say()))).status == 200
    (registration,) = await registrations(bridge)
    assert len(registration["bindings"]) == 2
    await rest(bridge, "DELETE", "/v1/users/alice")
    assert (await alice.say(proof(await alice.say()))).status == 401


async def test_what_was_not_delivered_is_delivered_after_kill_9(scene: Scene) -> None:
    application = await scene.application(up=False)
    redis = await scene.redis()
    bridge = await scene.bridge(application, store=redis.url, config=USERS)
    alice = Phone(await scene.caller(bridge))
    challenge = await alice.say()
    for count in (1, 2, 3):
        assert (await alice.say(proof(challenge, count=count))).status == 200
    await until(lambda: bridge.said("webhook_failed"), "the application has been missed")
    bridge.kill()
    await application.start()
    await bridge.start()
    await application.event("registration.refreshed", number=2)
    assert application.streams[f"aor:{ALICE}"].types == [
        "registration.created",
        "registration.refreshed",
        "registration.refreshed",
    ]
    application.judge()


def _as_admin() -> dict[str, Any]:
    return {"api": {"keys": [{"name": "tests", "key": KEY, "scopes": ["admin"]}]}}
