"""Two bridges, one of them a redirect server: whoever calls it is sent on to the other one, or to a phone, and gets there."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from tests.docs.pages import ROOT
from tests.support.application import Application, Event, actions, answering
from tests.support.callee import Callee
from tests.support.programs import PORTS, Program
from tests.support.scene import Scene
from tests.support.served import Served
from tests.support.waiting import until

pytestmark = [pytest.mark.interop, pytest.mark.asyncio(loop_scope="module")]

CALLS = 30
SENT_ELSEWHERE = ("call.incoming", "call.redirected", "call.ended")
ANSWERED = ("call.incoming", "call.answered", "call.ended")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with Scene(tmp_path_factory.mktemp("redirecting")) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def callee(scene: Scene) -> Callee:
    return await scene.callee()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(scene: Scene) -> Application:
    """What answers at the bridge that callers are sent to."""
    return await scene.application()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge(scene: Scene, there: Application) -> Served:
    return await scene.bridge(there, store="memory://")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def elsewhere(scene: Scene, bridge: Served, callee: Callee) -> Application:
    """What the redirect server asks: 2.. is a phone, everybody else at the other bridge."""

    async def redirect(event: Event) -> web.StreamResponse:
        if event["type"] != "call.incoming":
            return await answering(event)
        user = event["data"]["call"]["to"]["user"]
        contact = callee.uri if user.startswith("2") else f"sip:{user}@127.0.0.1:{bridge.sip_port}"
        return actions({"action": "redirect", "contacts": [{"uri": contact, "q": 0.5}]})

    return await scene.application(redirect)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(scene: Scene, elsewhere: Application) -> Served:
    return await scene.bridge(elsewhere, store="memory://")


@pytest.fixture(autouse=True)
def anew(there: Application, elsewhere: Application) -> None:
    there.streams.clear()
    elsewhere.streams.clear()


def kinds(application: Application) -> Counter[tuple[str, ...]]:
    return Counter(tuple(stream.types) for stream in application.streams.values())


async def test_callers_are_sent_on_and_get_there(
    scene: Scene, server: Served, elsewhere: Application, there: Application
) -> None:
    run = scene.sipp(server, scenario="redirected.xml", calls=CALLS, rate=CALLS, user="100")
    done = await run.done()
    assert (done.successful, done.failed, done.code) == (CALLS, 0, 0), str(done)
    for application, told in ((elsewhere, SENT_ELSEWHERE), (there, ANSWERED)):
        await application.all_ended(CALLS)
        application.judge()
        assert kinds(application) == {told: CALLS}
    ends = Counter((each.call["ended"]["by"], each.call["ended"]["reason"]) for each in elsewhere.streams.values())
    assert ends == {("local", "redirected"): CALLS}


async def test_a_phone_follows(scene: Scene, server: Served, elsewhere: Application, there: Application) -> None:
    phone = await scene.baresip()
    await phone.command("dial", f"sip:100@127.0.0.1:{server.sip_port}")
    await phone.event("CALL_ESTABLISHED")
    await there.event("call.answered")
    await phone.command("hangup")
    for application, told in ((elsewhere, SENT_ELSEWHERE), (there, ANSWERED)):
        await application.all_ended(1)
        application.judge()
        assert kinds(application) == {told: 1}


async def test_a_bridge_follows(
    bridge: Served, server: Served, callee: Callee, elsewhere: Application, there: Application
) -> None:
    """As a client: it asks the redirect server, and calls the phone that is named."""
    before = len(callee.calls)
    async with bridge.rest("POST", "/v1/calls", json={"to": f"sip:200@127.0.0.1:{server.sip_port}"}) as made:
        assert made.status == 201
        name = (await made.json())["id"]
    await there.event("call.answered", call=name)
    assert len(callee.calls) == before + 1
    async with bridge.rest("DELETE", f"/v1/calls/{name}") as told:
        assert told.status == 202
    await there.all_ended(1)
    shown = [(each["target"], each["code"]) for each in there.streams[name].call["attempts"]]
    assert shown == [(f"sip:200@127.0.0.1:{server.sip_port}", 302), (callee.uri, 200)]
    await elsewhere.all_ended(1)
    assert kinds(elsewhere) == {SENT_ELSEWHERE: 1}


async def test_a_bridge_tells_where_it_could_have_looked(
    bridge: Served, server: Served, callee: Callee, there: Application
) -> None:
    before = len(callee.calls)
    body = {"to": f"sip:200@127.0.0.1:{server.sip_port}", "on_redirect": "report"}
    async with bridge.rest("POST", "/v1/calls", json=body) as made:
        name = (await made.json())["id"]
    failed = (await there.event("call.attempt_failed", call=name))["data"]
    assert (failed["code"], failed["contacts"]) == (302, [{"uri": callee.uri, "q": 0.5}])
    await there.all_ended(1)
    assert there.streams[name].call["ended"]["reason"] == "redirected"
    assert len(callee.calls) == before


async def test_a_dial_follows_and_the_caller_does_not_notice(scene: Scene, server: Served, callee: Callee) -> None:
    async def dial(event: Event) -> web.StreamResponse:
        return actions({"action": "dial", "to": f"sip:200@127.0.0.1:{server.sip_port}"})

    application = await scene.application(dial)
    served = await scene.bridge(application, store="memory://")
    before = len(callee.calls)
    call = (await scene.caller(served)).call("900")
    assert (await call.invite()).status == 200
    await until(lambda: application.count("call.joined") == 2, "they are joined")
    assert len(callee.calls) == before + 1
    assert (await call.bye()).status == 200
    await application.all_ended(2)
    application.judge()


async def test_by_rest(scene: Scene, callee: Callee) -> None:
    async def park(event: Event) -> web.StreamResponse:
        return actions({"action": "park", "timeout_s": 600}) if event["type"] == "call.incoming" else web.Response()

    application = await scene.application(park)
    served = await scene.bridge(application, store="memory://")
    caller = await scene.caller(served)
    call = caller.call("100")
    call.begin()
    await until(lambda: application.streams, "the application knows")
    (name,) = application.streams
    body = {"contacts": [callee.uri], "code": 301, "headers": {"X-Why": "moved out"}}
    async with served.rest("POST", f"/v1/calls/{name}/redirect", json=body) as taken:
        assert taken.status == 202
    await application.all_ended(1)
    assert application.streams[name].call["ended"]["sip_code"] == 301
    async with served.rest("POST", f"/v1/calls/{name}/redirect", json=body) as late:
        assert late.status in (404, 409, 410)


async def test_the_example_is_a_redirect_server(scene: Scene, bridge: Served, there: Application) -> None:
    port = PORTS.one()
    target = f"sip:100@127.0.0.1:{bridge.sip_port}"
    example = Program(
        [sys.executable, str(ROOT / "examples" / "redirect.py")],
        output=scene.place("example"),
        environ={"PORT": str(port), "TARGETS": target},
    )
    scene.stack.callback(example.kill)
    config = {"webhooks": {"url": f"http://127.0.0.1:{port}/calls", "decision_timeout_s": 10}}
    served = await scene.bridge(there, store="memory://", config=config)
    phone = await scene.baresip()
    await phone.command("dial", f"sip:700@127.0.0.1:{served.sip_port}")
    await phone.event("CALL_ESTABLISHED")
    await there.event("call.answered")
    await phone.command("hangup")
    await there.all_ended(1)
    assert kinds(there) == {ANSWERED: 1}
    await until(lambda: "call.redirected" in example.said(), example.said)
    assert target in example.said()
