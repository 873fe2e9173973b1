"""A text for somebody who is registered: from one phone to another through us, and what comes back."""

from __future__ import annotations

import pytest

from tests.support.phone import Message
from tests.support.scene import Scene
from tests.support.served import Served

pytestmark = pytest.mark.interop

USERS = {"users": [{"username": "alice", "password": "secret"}], "sip": {"domains": ["127.0.0.1"]}}


async def text(scene: Scene, bridge: Served, to: str, *, method: str = "MESSAGE") -> Message:
    caller = await scene.caller(bridge)
    return await caller.ask(
        f"{method} sip:{to}@127.0.0.1:{bridge.sip_port} SIP/2.0\n"
        "Via: SIP/2.0/UDP 127.0.0.1:{port};branch={branch};rport\n"
        "Max-Forwards: 70\nFrom: <sip:tests@elsewhere.example>;tag={tag}\n"
        f"To: <sip:{to}@127.0.0.1>\nCall-ID: {{call_id}}\nCSeq: 1 {method}\n"
        "Contact: <sip:tests@127.0.0.1:{port}>\nContent-Type: text/plain\nContent-Length: 5\n\nHello"
    )


async def test_baresip_is_written_to(scene: Scene) -> None:
    application = await scene.application()
    bridge = await scene.bridge(application, store="memory://", config=USERS)
    nobody = await text(scene, bridge, "alice")
    assert nobody.status == 480
    phone = await scene.baresip(f"<sip:alice@127.0.0.1:{bridge.sip_port}>;auth_pass=secret;regint=60")
    await phone.registered()
    answer = await text(scene, bridge, "alice")
    assert answer.status == 200
    assert "baresip" in (answer["server"] or answer["user-agent"])
    able = await text(scene, bridge, "alice", method="OPTIONS")
    assert able.status == 200
    assert "baresip" in (able["server"] or able["user-agent"])
