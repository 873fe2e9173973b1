"""What docs/transferring.md says of its example, with phones on real sockets: blind and attended, by a phone and by REST."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
import yaml

from tests.docs.pages import ROOT, page
from tests.support.callee import Callee
from tests.support.caller import Caller
from tests.support.programs import PORTS, Program
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(100)]


@dataclass
class Stage:
    """The bridge as the page configures it, the example, and the two phones that it knows."""

    service: Served
    example: Program
    caller: Caller
    phone: Callee
    other: Callee

    async def told(self, what: str) -> None:
        await until(lambda: what in self.example.said(), lambda: f"{what} is told:\n{self.example.said()}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    directory = tmp_path_factory.mktemp("transferring")
    async with Scene(directory) as scene:
        phone, other, port = await scene.callee(), await scene.callee(), PORTS.one()
        environ = {"PORT": str(port), "PHONE": phone.uri, "OTHERS": other.uri}
        example = _example(directory, environ)
        (block,) = [each for each in page("docs/transferring.md").blocks if each.language == "yaml"]
        shown = yaml.safe_load(block.text.replace("http://127.0.0.1:3000", f"http://127.0.0.1:{port}"))
        config = {"store": {"url": "memory://"}, "applications": shown["applications"]}
        async with Served(directory / "bridge", config, media_pairs=20) as service:
            await service.start()
            try:
                yield Stage(service, example, await scene.caller(service), phone, other)
            finally:
                example.kill()


def _example(directory: Path, environ: dict[str, str]) -> Program:
    file = ROOT / "examples" / "transfer.py"
    return Program([sys.executable, str(file)], output=directory / "example", environ=environ)


async def test_a_phone_transfers_blind(stage: Stage) -> None:
    call = stage.caller.call("800")
    assert (await call.invite()).status == 200
    await stage.told("call.joined")
    assert (await call.request("REFER", headers=f"Refer-To: <{stage.other.uri}>\r\n")).status == 202
    await call.hung_up()
    await stage.told(f"transfer.completed call_{_name_of(stage)} {stage.other.uri} 200")
    (connected,) = stage.other.calls.values()
    await connected.bye()
    (partner,) = stage.phone.calls.values()
    await partner.hung_up()


async def test_a_phone_transfers_to_nobody_that_the_example_does_not_know(stage: Stage) -> None:
    call = stage.caller.call("800")
    assert (await call.invite()).status == 200
    await until(lambda: stage.example.said().count("call.joined") >= 4, "they are joined")
    assert (await call.request("REFER", headers="Refer-To: <sip:stranger@127.0.0.1>\r\n")).status == 603
    await call.bye()


async def test_a_phone_transfers_attended(stage: Stage) -> None:
    first, second = stage.caller.call("800"), stage.caller.call("801")
    for each in (first, second):
        assert (await each.invite()).status == 200
    await until(lambda: stage.example.said().count("call.joined") >= 8, "both are joined")
    before = len(stage.other.calls)
    tags = f"to-tag={second.to_tag};from-tag={second.from_tag}"
    target = f"{stage.other.uri}?Replaces={quote(f'{second.call_id};{tags}', safe='')}"
    assert (await first.request("REFER", headers=f"Refer-To: <{target}>\r\n")).status == 202
    await first.hung_up()
    await second.hung_up()
    assert len(stage.other.calls) == before, "nobody is called anew"
    *_, consulted = stage.other.calls.values()
    await consulted.bye()
    *_, partner = stage.phone.calls.values()
    await partner.hung_up()


async def test_the_application_transfers_by_rest_blind_and_attended(stage: Stage) -> None:
    first, second = stage.caller.call("800"), stage.caller.call("801")
    ids = []
    for each in (first, second):
        assert (await each.invite()).status == 200
        async with stage.service.rest("GET", "/v1/calls?limit=500") as answer:
            calls = (await answer.json())["data"]
        ids += [call["id"] for call in calls if call["sip"]["call_id"] == each.call_id]
    for body, refers_to in (
        ({"to": stage.other.uri}, stage.other.uri),
        ({"replaces_call_id": ids[1]}, "Replaces="),
    ):
        async with stage.service.rest("POST", f"/v1/calls/{ids[0]}/transfer", json=body) as answer:
            assert answer.status == 202, await answer.text()
        await until(lambda wanted=refers_to: wanted in _refers(first), "it is asked")  # type: ignore[misc]
        said = "SIP/2.0 486 Busy Here\r\n"
        fields = "Event: refer\r\nSubscription-State: terminated;reason=noresource\r\nContent-Type: message/sipfrag\r\n"
        assert (await first.request("NOTIFY", headers=fields, body=said)).status == 200
    for each in (first, second):
        await each.bye()


def _refers(call: object) -> str:
    asked = call.asked("REFER")  # type: ignore[attr-defined]
    return str(asked[-1]["refer-to"]) if asked else ""


def _name_of(stage: Stage) -> str:
    """Of the call that has been transferred last."""
    line = next(line for line in reversed(stage.example.said().splitlines()) if line.startswith("transfer.completed"))
    return line.split()[1].removeprefix("call_")
