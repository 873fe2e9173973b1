"""`sip-bridge drain` against the API on a real socket, over a service in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from bridge import operating
from bridge.api import DrainRefused
from bridge.api.app import make_app
from bridge.api.auth import ApiKey
from bridge.cli import main
from bridge.telemetry.metrics import Metrics
from tests.api.fakes import FakeService
from tests.support.waiting import until

KEY = "k" * 20
Servers = Callable[[web.Application], Awaitable[TestServer]]


class Operator:
    """Somebody at a terminal."""

    def __init__(self, url: str, directory: Any) -> None:
        self.url = url
        self._file = directory / "key"
        self._file.write_text(KEY + "\n")

    async def types(self, *words: str, keyed: bool = True) -> Result:
        key = ["--key-file", str(self._file)] if keyed else []
        run = partial(CliRunner().invoke, main, ["drain", "--url", self.url, *key, *words], prog_name="sip-bridge")
        return await asyncio.to_thread(run)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> FakeService:
    monkeypatch.setattr(operating, "LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr(operating, "SILENT_S", 0.05)
    monkeypatch.delenv("SIP_BRIDGE_KEY", raising=False)
    return FakeService()


@pytest.fixture
async def operator(service: FakeService, aiohttp_server: Servers, tmp_path: Any) -> AsyncIterator[Operator]:
    app = make_app(
        control=service,
        reader=service,
        registrations=service,
        trunks=service,
        nodes=service,
        health=service,
        metrics=Metrics(),
        keys=[ApiKey("ops", KEY, frozenset({"admin"}))],
    )
    server = await aiohttp_server(app)
    with capture_logs():  # the API's own, which would be taken for the command's output
        yield Operator(str(server.make_url("/")), tmp_path)


def carries(service: FakeService, node: str, conversations: int) -> None:
    load = {"calls": 2 * conversations, "conversations": conversations, "capacity": 100}
    service.nodes_by_id[node] = {**service.nodes_by_id[node], "load": load}


async def test_without_a_name_it_is_the_node_that_answers(operator: Operator, service: FakeService) -> None:
    result = await operator.types()
    assert (result.exit_code, result.output) == (0, "n1 is draining: conversations left: 1, calls: 2\n")
    assert [name for name, node in service.nodes_by_id.items() if node["draining"]] == ["n1"]


async def test_any_other_may_be_named(operator: Operator, service: FakeService) -> None:
    assert (await operator.types("--node", "n3")).exit_code == 0
    assert [name for name, node in service.nodes_by_id.items() if node["draining"]] == ["n3"]


async def test_a_name_is_passed_on_as_it_is(operator: Operator, service: FakeService) -> None:
    name = "a/b %2F?"
    service.nodes_by_id[name] = {**service.nodes_by_id["n2"], "id": name}
    assert (await operator.types("--node", name)).exit_code == 0
    assert service.nodes_by_id[name]["draining"]


async def test_it_waits_until_nothing_is_left(operator: Operator, service: FakeService) -> None:
    carries(service, "n2", 3)
    waiting = asyncio.create_task(operator.types("--node", "n2", "--wait"))
    await until(lambda: service.nodes_by_id["n2"]["draining"], "it is asked")
    carries(service, "n2", 1)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    carries(service, "n2", 0)
    result = await waiting
    assert result.exit_code == 0
    assert result.output.splitlines()[0] == "n2 is draining: conversations left: 3, calls: 6"
    assert result.output.splitlines()[-2:] == ["conversations left: 0, calls: 0", "n2 is empty"]


async def test_it_does_not_wait_for_ever(operator: Operator) -> None:
    result = await operator.types("--wait", "--timeout", "0.1")
    assert (result.exit_code, result.output.splitlines()[-1]) == (3, "n1 is not empty after 0.1 s")


async def test_a_node_that_has_stopped_in_order_is_empty(operator: Operator, service: FakeService) -> None:
    waiting = asyncio.create_task(operator.types("--node", "n2", "--wait"))
    await until(lambda: service.nodes_by_id["n2"]["draining"], "it is asked")
    del service.nodes_by_id["n2"]
    assert (await waiting).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"incarnation": "another"}, "n2 has been started anew meanwhile"),
        ({"alive": False}, "n2 has died meanwhile"),
        ({"load": None}, "n2 does not say what it carries"),
    ],
)
async def test_what_becomes_of_it_meanwhile_is_told(
    operator: Operator, service: FakeService, changes: dict[str, Any], says: str
) -> None:
    waiting = asyncio.create_task(operator.types("--node", "n2", "--wait"))
    await until(lambda: service.nodes_by_id["n2"]["draining"], "it is asked")
    service.nodes_by_id["n2"] |= changes
    result = await waiting
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith(f"sip-bridge: {says}")


async def test_what_the_api_refuses_is_said(operator: Operator, service: FakeService) -> None:
    unknown = await operator.types("--node", "n9")
    assert (unknown.exit_code, unknown.output) == (
        1,
        "sip-bridge: POST /v1/nodes/n9/drain: 404: there is no such node\n",
    )
    service.drain_refused = DrainRefused("node_unreachable", "the node does not answer")
    assert "503: the node does not answer" in (await operator.types("--node", "n2")).output
    keyless = await operator.types(keyed=False)
    assert (keyless.exit_code, "401" in keyless.output) == (1, True)


async def test_the_key_may_be_in_the_environment(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIP_BRIDGE_KEY", KEY + "\n")  # as files end from which such a variable is made
    assert (await operator.types(keyed=False)).exit_code == 0


async def test_nobody_there(service: FakeService, tmp_path: Any) -> None:
    result = await Operator("http://127.0.0.1:9", tmp_path).types()
    assert result.exit_code == 1
    assert result.output.startswith("sip-bridge: http://127.0.0.1:9 does not answer as the API does")


async def test_a_limit_without_waiting_is_a_mistake(operator: Operator) -> None:
    assert (await operator.types("--timeout", "3")).exit_code == 2
