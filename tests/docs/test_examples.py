"""The examples do what the README says of them: run against a real service, called by a real phone."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import ClientSession

from bridge.ambient import SystemClock, SystemTokens
from bridge.demo.place import Place
from bridge.demo.running import Demo
from bridge.phone.incoming import IncomingCall
from bridge.phone.softphone import Phone
from bridge.sip.headers import contacts
from bridge.webhooks.signing import new_secret, sign
from tests.docs.pages import ROOT, page
from tests.support.application import SECRET
from tests.support.programs import PORTS, Program
from tests.support.served import KEY, Served
from tests.support.waiting import until

LINES_MAX = 40
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PATIENCE_S = 60.0

# Ten processes in all: a few seconds, more on a busy machine.
pytestmark = pytest.mark.timeout(100)


@dataclass(frozen=True)
class Stage:
    """A service with six applications: dial.py for 2…, answer.py with another secret for 3…, control.py for 5…, proxy.py for
    6…, redirect.py for 7…, answer.py for the rest."""

    service: Served
    answer: Program
    answer_url: str
    control: Program
    dial: Program
    redirect: Program
    proxy: Program
    targets: tuple[int, int]  # the ports of the two phones that dial.py knows

    def uri(self, user: str) -> str:
        return f"sip:{user}@127.0.0.1:{self.service.sip_port}"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("stage")
    ports = {name: PORTS.one() for name in ("answer", "wrong", "control", "dial", "redirect", "proxy")}
    targets = PORTS.one(), PORTS.one()
    urls = {name: f"http://127.0.0.1:{port}/calls" for name, port in ports.items()}
    numbers = {"dial": "2*", "wrong": "3*", "control": "5*", "redirect": "7*", "proxy": "6*"}
    applications = [_application(name, users, urls[name]) for name, users in numbers.items()]
    service = Served(
        directory / "bridge",
        {"store": {"url": "memory://"}, "webhooks": {"url": urls["answer"]}, "applications": applications},
        media_pairs=10,
    )
    environs = {
        "answer": {"WEBHOOK_SECRET": SECRET},
        "wrong": {"WEBHOOK_SECRET": new_secret()},
        "control": {"BRIDGE_API": f"http://127.0.0.1:{service.api_port}", "BRIDGE_KEY": KEY, "SECONDS": "1"},
        "redirect": {"TARGETS": f"sip:100@127.0.0.1:{service.sip_port},sip:phone@127.0.0.1:{targets[0]}"},
        "proxy": {"TARGETS": ",".join(f"sip:phone@127.0.0.1:{port}" for port in targets)},
        "dial": {"TARGETS": ",".join(f"sip:phone@127.0.0.1:{port}" for port in targets)},
    }
    with ExitStack() as stack:
        programs = {
            name: stack.enter_context(_example(name, directory, PORT=str(port), **environs[name]))
            for name, port in ports.items()
        }
        stack.enter_context(_running(service))
        for name, port in ports.items():
            _until_listens(programs[name], port)
        yield Stage(
            service,
            programs["answer"],
            urls["answer"],
            programs["control"],
            programs["dial"],
            programs["redirect"],
            programs["proxy"],
            targets,
        )


def _application(name: str, users: str, url: str) -> dict[str, Any]:
    hook = {"id": name, "url": url, "decision": True}
    return {"name": name, "match": {"users": [users]}, "webhooks": [hook]}


def _example(name: str, directory: Path, **environ: str) -> Program:
    file = ROOT / "examples" / f"{'answer' if name == 'wrong' else name}.py"
    return Program([sys.executable, str(file)], output=directory / name, environ=environ)


@contextmanager
def _running(service: Served) -> Iterator[None]:
    """It listens for SIP before it listens for HTTP."""
    program = service.launch()
    try:
        _until_listens(program, service.api_port)
        yield
    finally:
        service.kill()


def _until_listens(program: Program, port: int) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert program.code() is None, program.said()
            assert time.monotonic() < give_up, program.said()
            time.sleep(0.02)
        else:
            return


@pytest.fixture
async def phone() -> AsyncIterator[Phone]:
    phone = Phone("alice", clock=SystemClock(), tokens=SystemTokens())
    await phone.open()
    yield phone
    phone.close()


async def status_of(phone: Phone, uri: str) -> int | None:
    """Call, and hang up at once if that was answered."""
    call = phone.call(uri)
    response = await asyncio.wait_for(call.answered(), PATIENCE_S)
    call.hang_up()
    await asyncio.wait_for(call.over(), PATIENCE_S)
    return response.status if response is not None else None


def test_the_readme_shows_them_all() -> None:
    shown = page("README.md").text
    assert [path.name for path in EXAMPLES if f"](examples/{path.name})" not in shown] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < LINES_MAX


async def test_answer_answers_calls_to_100(stage: Stage, phone: Phone) -> None:
    assert await status_of(phone, stage.uri("100")) == 200

    def printed() -> list[str]:
        return [line.split()[0] for line in stage.answer.said().splitlines() if f":{phone.port} " in line]

    await until(lambda: "call.ended" in printed(), stage.answer.said)
    assert printed() == ["call.incoming", "action.completed", "call.answered", "call.ended"]


@pytest.mark.parametrize("user", ["101", "reception"])
async def test_answer_is_busy_for_everybody_else(stage: Stage, phone: Phone, user: str) -> None:
    assert await status_of(phone, stage.uri(user)) == 486


async def test_with_another_secret_nothing_is_believed(stage: Stage, phone: Phone) -> None:
    assert await status_of(phone, stage.uri("300")) == 480  # the fallback
    failed = stage.service.said("decision_failed")[-1]
    assert "wants other credentials" in failed["advice"]
    assert "(401)" in failed["advice"]


@pytest.mark.parametrize(("secret", "status"), [(SECRET, 200), (new_secret(), 401)])
async def test_answer_verifies_signatures(stage: Stage, secret: str, status: int) -> None:
    body = b'{"id": "evt_1", "type": "call.held", "data": {"call": {"id": "c", "from": {"uri": "u"}, "ended": null}}}'
    now = int(SystemClock().now())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([secret], "evt_1", now, body),
        "content-type": "application/json",
    }
    async with ClientSession() as session, session.post(stage.answer_url, data=body, headers=headers) as answer:
        assert answer.status == status


async def test_control_parks_answers_by_rest_and_hangs_up(stage: Stage, phone: Phone) -> None:
    call = phone.call(stage.uri("500"))
    response = await asyncio.wait_for(call.answered(), PATIENCE_S)
    assert response is not None
    assert response.status == 200
    assert await asyncio.wait_for(call.over(), PATIENCE_S) == "remote"
    await until(lambda: "call.ended" in stage.control.said(), "control.py has heard of the end")
    printed = [" ".join(line.split()[:3]) for line in stage.control.said().splitlines()]
    assert [line for line in printed if line.startswith("call.")] == ["call.incoming", "call.answered", "call.ended"]
    assert any(line.startswith("answer 202") for line in printed)
    assert "hang up 202" in printed


class Called:
    """A phone that is called, and how it takes that."""

    def __init__(self, manner: Callable[[IncomingCall], None], user: str = "phone") -> None:
        self.heard = asyncio.Event()
        self.phone = Phone(user, clock=SystemClock(), tokens=SystemTokens(), heard=self.heard.set, called=manner)


def answer(call: IncomingCall) -> None:
    call.ring()
    call.answer()


def busy(call: IncomingCall) -> None:
    call.reject(486)


async def test_dial_sends_on_to_whoever_answers(stage: Stage) -> None:
    first, second = Called(busy), Called(answer)
    caller = Called(busy, "carol")
    try:
        for called, port in ((first, stage.targets[0]), (second, stage.targets[1]), (caller, 0)):
            await called.phone.open("127.0.0.1", port)
        call = caller.phone.call(stage.uri("200"))
        response = await asyncio.wait_for(call.answered(), PATIENCE_S)
        assert response is not None
        assert response.status == 200
        await asyncio.wait_for(asyncio.gather(caller.heard.wait(), second.heard.wait()), PATIENCE_S)
        call.hang_up()
        taken = second.phone.call_now
        assert taken is not None
        assert await asyncio.wait_for(taken.over(), PATIENCE_S) == "remote"

        def told() -> list[str]:
            return [line.split()[0] for line in stage.dial.said().splitlines() if " sip:carol@" in line]

        await until(lambda: told().count("call.ended") == 2, stage.dial.said)
        assert "call.attempt_failed" in told()
        assert told().count("call.joined") == 2
        assert "Busy Here" in stage.dial.said()
    finally:
        for each in (first, second, caller):
            each.phone.close()


async def test_dial_says_so_where_nobody_answers(stage: Stage, phone: Phone) -> None:
    both = Called(busy), Called(busy)
    try:
        for called, port in zip(both, stage.targets, strict=True):
            await called.phone.open("127.0.0.1", port)
        call = phone.call(stage.uri("201"))
        response = await asyncio.wait_for(call.answered(), PATIENCE_S)
        assert response is not None
        assert (response.status, response.reason) == (480, "Nobody There")
    finally:
        for called in both:
            called.phone.close()


async def test_redirect_says_where_else_to_look(stage: Stage, phone: Phone) -> None:
    """And who calls there is answered."""
    call = phone.call(stage.uri("700"))
    response = await asyncio.wait_for(call.answered(), PATIENCE_S)
    assert response is not None
    found = contacts(response)
    assert isinstance(found, tuple)
    assert (response.status, [each.param("q") for each in found]) == (302, ["1", "0.9"])
    assert await status_of(phone, found[0].uri) == 200
    await until(lambda: "call.ended" in stage.redirect.said(), stage.redirect.said)
    printed = [line.split()[0] for line in stage.redirect.said().splitlines()]
    assert printed == ["call.incoming", "call.redirected", "call.ended"]


async def test_proxy_gives_the_call_to_the_first_who_answers(stage: Stage, phone: Phone) -> None:
    rings, answers = Called(lambda call: call.ring()), Called(answer)
    try:
        for called, port in zip((rings, answers), stage.targets, strict=True):
            await called.phone.open("127.0.0.1", port)
        call = phone.call(stage.uri("600"))
        response = await asyncio.wait_for(call.answered(), PATIENCE_S)
        assert response is not None
        assert response.status == 200
        found = contacts(response)
        assert isinstance(found, tuple)
        assert str(stage.targets[1]) in found[0].uri, "it is the phone's own"
        await until(lambda: "call.ended" in stage.proxy.said(), stage.proxy.said)
        printed = [line.split()[0] for line in stage.proxy.said().splitlines()]
        assert [each for each in printed if each != "call.ringing"] == ["call.incoming", "call.proxied", "call.ended"]
        call.hang_up()
        taken = answers.phone.call_now
        assert taken is not None
        assert await asyncio.wait_for(taken.over(), PATIENCE_S) == "remote"
    finally:
        for called in (rings, answers):
            called.phone.close()


async def test_the_curl_of_the_readme_connects_two_phones(stage: Stage) -> None:
    """As it stands but for the ports: it is one call, which the two hear each other in."""
    shown = next(
        block.text
        for block in page("README.md").blocks
        if "curl -X POST http://127.0.0.1:8080/v1/calls -H" in block.text
    )
    body = re.search(r"-d '(.*)'", shown)
    assert body is not None
    one, other = Called(answer), Called(answer)
    try:
        for called in (one, other):
            await called.phone.open()
        text = body[1].replace(":5070", f":{one.phone.port}").replace(":5071", f":{other.phone.port}")
        async with (
            ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session,
            session.post(f"http://127.0.0.1:{stage.service.api_port}/v1/calls", json=json.loads(text)) as made,
        ):
            assert made.status == 201
        await asyncio.wait_for(asyncio.gather(one.heard.wait(), other.heard.wait()), PATIENCE_S)
        taken = [each.phone.call_now for each in (one, other)]
        assert taken[0] is not None
        assert taken[1] is not None
        taken[0].hang_up()
        assert await asyncio.wait_for(taken[1].over(), PATIENCE_S) == "remote"
    finally:
        for called in (one, other):
            called.phone.close()


async def test_a_number_that_no_application_takes_is_not_found(phone: Phone, tmp_path: Path) -> None:
    service = Served(tmp_path, {"store": {"url": "memory://"}}, media_pairs=1)
    with _running(service):
        assert await status_of(phone, f"sip:100@127.0.0.1:{service.sip_port}") == 404
        assert not service.said("call_incoming")


class EndedBridge:
    """What `Demo` waits for while it stays up: here it has ended already."""

    async def wait(self) -> int:
        return 0


async def test_make_run_prints_the_lines_of_the_readme(tmp_path: Path) -> None:
    """No process is needed for that: tests/test_demo.py starts the whole."""
    lines: list[str] = []
    place = Place("192.0.2.10", 5060, 8080, 3000, tmp_path, key="key", password="password")
    await Demo(say=lines.append)._stay(place, cast(Any, EndedBridge()))
    printed = "\n".join(lines).replace("password", "…")
    shown = [block.text for block in page("README.md").blocks if "192.0.2.10:5060" in block.text]
    baresip, linphone = (text.splitlines() for text in shown)
    for line in baresip:
        assert f"  {line}\n" in printed
    for line in linphone[1:]:
        assert f"  linphonec, then: {line.removeprefix('linphonec> ')}\n" in printed
