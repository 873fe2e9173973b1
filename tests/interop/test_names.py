"""Calls to names: a real service that asks a name server of ours, which leads to real callees (RFC 3263).

The service sees another resolv.conf than everybody else, in a mount namespace of its own: needs root.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.application import Application
from tests.support.callee import Callee, says, silent
from tests.support.dns import Entry, NameServer
from tests.support.namespaces import LOOPBACK, Host
from tests.support.programs import find_program
from tests.support.scene import Scene
from tests.support.served import Served

pytestmark = [
    pytest.mark.interop,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces want root (CAP_SYS_ADMIN)"),
]


class Elsewhere(Host):
    """This machine, but for the name server that programs know there."""

    def __init__(self, place: Path, server: NameServer) -> None:
        super().__init__(LOOPBACK.address)
        place.mkdir()
        self._file = place / "resolv.conf"
        self._file.write_text(f"nameserver {server.address}\n")

    def command(self, command: Sequence[str]) -> list[str]:
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return [find_program("unshare"), "--mount", find_program("sh"), "-c", script, str(self._file), *command]


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with NameServer({}) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("names")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def application(scene: Scene) -> Application:
    return await scene.application()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, application: Application, names: NameServer) -> Served:
    host = Elsewhere(scene.place("dns"), names)
    return await scene.bridge(application, store="memory://", media_pairs=20, host=host)


def lead(names: NameServer, domain: str, *servers: Callee) -> None:
    """The servers of this domain, first the one to ask first."""
    names.entries[domain] = [Entry("NAPTR", f"10 10 s SIP+D2U - _sip._udp.{domain}.")]
    names.entries[f"_sip._udp.{domain}"] = [
        Entry("SRV", f"{priority} 0 {each.port} host{priority}.{domain}.") for priority, each in enumerate(servers)
    ]
    for priority in range(len(servers)):
        names.entries[f"host{priority}.{domain}"] = [Entry("A", LOOPBACK.address)]


async def call(bridge: Served, to: str) -> str:
    async with bridge.rest("POST", "/v1/calls", json={"to": to}) as answer:
        shown: dict[str, Any] = await answer.json()
        assert answer.status == 201, shown
        return str(shown["id"])


async def test_the_server_that_srv_names(
    scene: Scene, application: Application, bridge: Served, names: NameServer
) -> None:
    near, far = await scene.callee(), await scene.callee()
    lead(names, "one.example", near, far)
    name = await call(bridge, "sip:bob@one.example")
    await (await near.called()).up()
    await application.event("call.answered", call=name)
    assert far.calls == {}
    assert names.asked["NAPTR one.example"] == 1
    again = await call(bridge, "sip:bob@one.example")
    await application.event("call.answered", call=again)
    assert names.asked["NAPTR one.example"] == 1  # it said how long that holds


@pytest.mark.parametrize(("domain", "fault"), [("silent.example", silent), ("busy.example", says(503))])
async def test_the_next_server(
    domain: str, fault: Any, scene: Scene, application: Application, bridge: Served, names: NameServer
) -> None:
    broken, well = await scene.callee(fault), await scene.callee()
    lead(names, domain, broken, well)
    name = await call(bridge, f"sip:bob@{domain}")
    taken = await well.called()
    await taken.up()
    await application.event("call.answered", call=name)
    assert application.streams[name].types == ["call.initiated", "call.answered"]
    assert list(broken.calls) == list(well.calls)  # one Call-ID


async def test_a_name_that_nobody_has(application: Application, bridge: Served) -> None:
    name = await call(bridge, "sip:bob@nowhere.example")
    ended = (await application.event("call.ended", call=name))["data"]["call"]["ended"]
    assert (ended["by"], ended["reason"], ended["sip_code"]) == ("network", "unreachable", 503)


async def test_a_proxy_that_all_calls_go_through(scene: Scene, application: Application) -> None:
    proxy = await scene.callee()
    way = f"sip:{LOOPBACK.address}:{proxy.port};lr"
    served = await scene.bridge(application, store="memory://", media_pairs=20, config={"sip": {"outbound_proxy": way}})
    await call(served, "sip:bob@elsewhere.example;transport=tls")
    taken = await proxy.called()
    assert taken.invite["route"] == f"<{way}>"
    await taken.up()
