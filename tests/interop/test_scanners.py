"""SIPVicious against the bridge: svmap learns nothing, svwar enumerates nobody, svcrack is banned, and calls go on beside them.

Under their own name they get silence. `Disguise` gives them the name of a phone, and an address of their own.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import pytest

from tests.interop.test_registering import Phone, proof
from tests.support.caller import Caller
from tests.support.programs import find_program
from tests.support.scene import Scene
from tests.support.served import Served

pytestmark = pytest.mark.interop

SCANNER = "127.0.0.66"
CONFIG: dict[str, Any] = {
    "users": [{"username": "alice", "password": "secret"}, {"username": "1003", "password": "correct horse"}],
    "limits": {"trusted_nets": "127.0.0.1", "max_failures_per_source": 10, "ban_s": 3600},
}
WITHIN_S = 20.0


class _Leg(asyncio.DatagramProtocol):
    """One side of a disguise."""

    def __init__(self, disguise: Disguise) -> None:
        self.disguise = disguise
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.disguise.pass_on(self, data, addr)


class Disguise:
    """A relay in front of the bridge that takes the tool's name out of what it says."""

    def __init__(self, bridge: Served, host: str) -> None:
        self._target = ("127.0.0.1", bridge.sip_port)
        self._host = host
        self._inner = self._outer = _Leg(self)
        self._scanner = ("", 0)
        self.asked = self.answered = 0

    async def open(self) -> int:
        """The port that the tool is to attack at its own address."""
        loop = asyncio.get_running_loop()
        _, self._inner = await loop.create_datagram_endpoint(lambda: _Leg(self), local_addr=(self._host, 0))
        _, self._outer = await loop.create_datagram_endpoint(lambda: _Leg(self), local_addr=(self._host, 0))
        port: int = self._inner.transport.get_extra_info("sockname")[1]
        return port

    def close(self) -> None:
        for leg in {self._inner, self._outer}:
            leg.transport.close()

    def pass_on(self, leg: _Leg, data: bytes, source: tuple[str, int]) -> None:
        if leg is self._inner:
            self.asked += 1
            self._scanner = source
            said = re.sub(rb"friendly-scanner", b"Telephone 1.0", data)
            self._outer.transport.sendto(re.sub(rb"sipvicious", b"telephone", said), self._target)
        else:
            self.answered += 1
            self._inner.transport.sendto(data, self._scanner)


async def attack(tool: str, *arguments: str, place: Path) -> str:
    """What the tool has found out; it is ended after a while."""
    place.mkdir(parents=True, exist_ok=True)
    environment = {"HOME": str(place), "PATH": "/usr/bin:/bin"}
    made = await asyncio.create_subprocess_exec(
        find_program(tool),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=place,
    )
    try:
        output, _ = await asyncio.wait_for(made.communicate(), WITHIN_S)
    except TimeoutError:
        made.kill()
        output, _ = await made.communicate()
    return output.decode(errors="replace")


async def disguised(scene: Scene, bridge: Served, host: str = SCANNER) -> tuple[Disguise, int]:
    disguise = Disguise(bridge, host)
    port = await disguise.open()
    scene.stack.callback(disguise.close)
    return disguise, port


async def is_served(caller: Caller) -> None:
    call = caller.call()
    assert (await call.invite()).status == 200
    assert (await call.bye()).status == 200


async def test_under_their_own_names_they_learn_nothing(scene: Scene) -> None:
    application = await scene.application()
    config = {
        **CONFIG,
        "limits": {"trusted_nets": "192.0.2.1"},
    }  # svcrack is at the address of the calls, whatever -b says
    bridge = await scene.bridge(application, store="memory://", config=config)
    caller, place = await scene.caller(bridge), scene.place("scanner")
    port = str(bridge.sip_port)
    await is_served(caller)
    for tool, *arguments in (
        ("svmap", "-p", port, "-b", SCANNER, "127.0.0.1"),
        ("svmap", "-p", port, "-b", SCANNER, "-m", "INVITE", "127.0.0.1"),
        ("svwar", "-p", port, "-b", SCANNER, "-e", "1000-1010", "127.0.0.1"),
        ("svcrack", "-p", port, "-b", SCANNER, "-u", "1003", "-r", "1-9", "127.0.0.1"),
    ):
        found = await attack(tool, *arguments, place=place)
        assert "1003 " not in found, found
        assert "sip-bridge" not in found.lower(), found
        await is_served(caller)
    metrics = await bridge.metrics()
    assert metrics['bridge_dropped_total{reason="scanner"}'] >= 4
    assert not bridge.said("authentication_failed")
    assert not bridge.complaints()


async def test_in_disguise_they_enumerate_nobody(scene: Scene) -> None:
    """svwar tells users by answers that differ: all of them are alike, so it gives up or names none."""
    application = await scene.application()
    bridge = await scene.bridge(application, store="memory://", config=CONFIG)
    caller, place = await scene.caller(bridge), scene.place("scanner")
    for method in ("REGISTER", "OPTIONS"):
        disguise, port = await disguised(scene, bridge)
        found = await attack("svwar", "-p", str(port), "-m", method, "-e", "1000-1010", SCANNER, place=place)
        assert disguise.answered > 0, "it was heard, and answered"
        named = set(re.findall(r"\b10(?:0\d|10)\b", found))
        assert named in (set(), {f"{number}" for number in range(1000, 1011)}), found
        await is_served(caller)


async def test_in_disguise_a_cracker_is_banned_and_the_user_it_guesses_at_is_not(scene: Scene) -> None:
    application = await scene.application()
    bridge = await scene.bridge(application, store="memory://", config=CONFIG)
    caller, place = await scene.caller(bridge), scene.place("scanner")
    alice = Phone(await scene.caller(bridge))
    words = place.with_name("words.txt")
    words.write_text("\n".join([*(f"guess{number}" for number in range(40)), "correct horse"]) + "\n")
    disguise, port = await disguised(scene, bridge)
    cracking = asyncio.create_task(
        attack("svcrack", "-p", str(port), "-u", "1003", "-d", str(words), SCANNER, place=place)
    )
    while not cracking.done():
        await is_served(caller)
        assert (await alice.say(proof(await alice.say()))).status == 200
        await asyncio.wait({cracking}, timeout=0.2)  # the media ports of a call have to come back
    found = await cracking
    assert "correct horse" not in found, found
    assert disguise.asked > disguise.answered > 10, "it was answered until it was banned"
    (banned,) = bridge.said("source_banned")
    assert banned["source"] == SCANNER
    metrics = await bridge.metrics()
    assert metrics["bridge_source_bans_total"] == 1
    assert metrics['bridge_dropped_total{reason="banned"}'] >= 1
    assert metrics['bridge_authentications_failed_total{reason="wrong"}'] == 11
