"""`sip-bridge demo`: a bridge, an application and two phones on real sockets, and every message between them as a ladder.

Succeeds only if all of it happened: both calls as they should, each webhook signed, in order, none missing, and audio both
ways. With `stay`, the same bridge and application stay up for a phone of one's own. However it ends, what it has started
ends with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import ClientError, ClientSession, web

from bridge.ambient import SystemClock, SystemTokens
from bridge.children import tied_to
from bridge.errors import StartError
from bridge.net.addresses import host_port, outward_address
from bridge.phone.ladder import Ladder, summary
from bridge.phone.outgoing import OutgoingCall
from bridge.phone.softphone import Phone, Seen
from bridge.webhooks.signing import new_secret, verify

ANSWER = "100"  # the number that is answered
BUSY = "200"  # the number that is not
READY_S = 20.0
STOP_S = 15.0  # what the bridge gets to end its calls; then it is killed
PATIENCE_S = 10.0
INTERRUPTED = 130  # as a shell counts Ctrl-C
_EVENTS_KEPT = 1000  # with `stay` there may be many
_MEDIA_FIRST, _MEDIA_LAST, _MEDIA_PORTS = 20_000, 32_000, 200
_ANSWERING: list[dict[str, Any]] = [{"action": "ring"}, {"action": "pause", "seconds": 0.5}, {"action": "answer"}]

Say = Callable[[str], None]
T = TypeVar("T")


class DidNotHappen(Exception):  # noqa: N818 -- says what is
    """Something that everything after it depends on."""


@dataclass
class Place:
    """Where the demo's bridge listens."""

    host: str
    sip: int
    api: int
    hook: int
    data_dir: Path
    key: str
    secret: str = field(default_factory=new_secret)

    def uri(self, user: str) -> str:
        """What a phone calls."""
        return f"sip:{user}@{host_port(outward_address(self.host), self.sip)}"


class Application:
    """The HTTP application of the demo: it decides about calls, and checks every webhook it gets."""

    def __init__(self, secret: str, show: Callable[[str, dict[str, Any]], None]) -> None:
        self._secret = secret
        self._show = show
        self._ended: dict[str, asyncio.Event] = {}
        self.events: deque[dict[str, Any]] = deque(maxlen=_EVENTS_KEPT)
        self.unsigned = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/calls", self._webhook)
        return app

    async def _webhook(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not verify(self._secret, request.headers, body):
            self.unsigned += 1
            return web.json_response({"error": "signature"}, status=401)
        event = json.loads(body)
        self._show("hook", event)
        self.events.append(event)
        call = event["data"]["call"]
        if event["type"] == "call.ended" and call["from"]["user"] in self._ended:
            self._ended[call["from"]["user"]].set()
        if event["type"] != "call.incoming":
            return web.Response()
        actions = [{"action": "reject", "code": 486}] if call["to"]["user"] == BUSY else _ANSWERING
        self._show("reply", {"actions": actions})
        return web.json_response({"actions": actions})

    def over(self, caller: str) -> asyncio.Event:
        """Set once this caller's next `call.ended` has come."""
        return self._ended.setdefault(caller, asyncio.Event())

    def events_of(self, caller: str) -> list[dict[str, Any]]:
        """The events of this caller's calls, in the order in which they came."""
        return [event for event in self.events if event["data"]["call"]["from"]["user"] == caller]


class Demo:
    """One run."""

    def __init__(self, *, say: Say) -> None:
        self._say = say
        self._clock = SystemClock()
        self._tokens = SystemTokens()
        self._began = self._clock.now()
        self._ladder = Ladder(("phone", "bridge", "application"), write=say)
        self._doubts: list[str] = []

    async def run(self, *, stay: bool, host: str, port: int | None, data_dir: Path | None) -> int:
        """The exit code: 0 only if all of it happened. Canceled, it ends what it has started."""
        async with AsyncExitStack() as stack:
            kept = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-demo-")))
            sip = port if port is not None else _free_port(host, socket.SOCK_DGRAM)
            place = Place(host, sip, _free_port(), _free_port(), kept, self._tokens.token(24))
            application = Application(place.secret, self._show_http)
            await _serve(stack, application.app(), place.hook)
            bridge = await self._start_bridge(stack, place)
            if stay:
                return await self._stay(place, bridge)
            return await self._calls(place, application)

    async def _calls(self, place: Place, application: Application) -> int:
        say = self._say
        say(
            f"Running here: a bridge on udp:{host_port(place.host, place.sip)}, an application on "
            f"http://127.0.0.1:{place.hook}/calls, two phones."
        )
        self._began = self._clock.now()
        try:
            say(f"\nAlice calls {ANSWER} and is answered; she holds, comes back, and is hung up on by REST:\n")
            self._ladder.head()
            sent, heard = await self._first_call(place, application)
            say(f"\nBob calls {BUSY}, which is busy:\n")
            self._ladder.head()
            await self._second_call(place, application)
            self._judge(application, sent, heard)
        except DidNotHappen as what:
            self._doubts.append(str(what))
        return self._conclude(application)

    async def _first_call(self, place: Place, application: Application) -> tuple[int, int]:
        """Alice is answered, holds, comes back, and is hung up on by REST. Packets she has sent and heard."""
        phone = await self._phone("alice", place)
        over = application.over("alice")
        try:
            call = phone.call(place.uri(ANSWER))
            response = await self._soon(call.answered(), "alice gets an answer")
            if response is None or response.status != 200:
                raise DidNotHappen("alice is answered with 200")
            await asyncio.sleep(1.0)
            await self._hold_and_resume(call)
            await self._hang_up_by_rest(place, application)
            how = await self._soon(call.over(), "alice's call ends")
            self._expect(how == "remote", "the bridge hangs up on alice")
            await self._soon(over.wait(), "the application is told that alice's call has ended")
            sent, heard = phone.audio.sent, phone.audio.quality.packets_received
            self._note(f"alice sent {sent} RTP packets, the bridge counted {_counted(application)}")
            self._note(f"she heard {heard}: silence, which keeps the way open")
            return sent, heard
        finally:
            phone.close()

    async def _hold_and_resume(self, call: OutgoingCall) -> None:
        held = await self._soon(call.hold(), "alice's hold is answered")
        self._expect(held is not None and held.status == 200, "alice's hold is accepted")
        await asyncio.sleep(0.3)
        back = await self._soon(call.resume(), "alice's coming back is answered")
        self._expect(back is not None and back.status == 200, "alice comes back")
        await asyncio.sleep(0.5)

    async def _hang_up_by_rest(self, place: Place, application: Application) -> None:
        call_id = application.events[0]["data"]["call_id"]
        url = f"http://127.0.0.1:{place.api}/v1/calls/{call_id}"
        self._ladder.arrow(self._now(), "application", "bridge", "DELETE /v1/calls/{id}")
        headers = {"Authorization": f"Bearer {place.key}"}
        try:
            async with ClientSession(headers=headers) as session, session.delete(url) as answer:
                self._ladder.arrow(self._now(), "bridge", "application", f"{answer.status} {answer.reason}")
                self._expect(answer.status in (200, 202), f"DELETE is accepted, not answered {answer.status}")
        except ClientError as error:
            raise DidNotHappen(f"the REST API answers ({error})") from error

    async def _second_call(self, place: Place, application: Application) -> None:
        """Bob calls a number that is busy."""
        phone = await self._phone("bob", place)
        over = application.over("bob")
        try:
            call = phone.call(place.uri(BUSY))
            response = await self._soon(call.answered(), "bob gets an answer")
            self._expect(response is not None and response.status == 486, "bob gets 486 Busy Here")
            await self._soon(over.wait(), "the application is told that bob's call has ended")
        finally:
            phone.close()

    async def _phone(self, user: str, place: Place) -> Phone:
        phone = Phone(user, clock=self._clock, tokens=self._tokens, observe=self._show_sip)
        await phone.open(outward_address(place.host))
        return phone

    # Judgement

    async def _soon(self, awaited: Awaitable[T], what: str) -> T:
        try:
            return await asyncio.wait_for(awaited, PATIENCE_S)
        except TimeoutError:
            raise DidNotHappen(f"{what} within {PATIENCE_S:g} s") from None

    def _expect(self, fact: bool, what: str) -> None:  # noqa: FBT001 -- reads as the sentence it is
        if not fact:
            self._doubts.append(what)

    def _judge(self, application: Application, sent: int, heard: int) -> None:
        expected = {
            "alice": [
                *("call.incoming", "action.completed", "call.answered"),
                *("call.held", "call.resumed", "call.ended"),
            ],
            "bob": ["call.incoming", "call.ended"],
        }
        for caller, types in expected.items():
            events = application.events_of(caller)
            came = [event["type"] for event in events]
            self._expect(came == types, f"{caller}'s events are {types}, in this order; they were {came}")
            numbers = [event["data"]["sequence"] for event in events]
            self._expect(numbers == list(range(1, len(numbers) + 1)), f"{caller}'s events are numbered without a gap")
        counted = _counted(application)
        self._expect(0 < counted <= sent, f"the bridge has counted alice's RTP packets: {counted} of {sent}")
        self._expect(heard > 0, "alice has heard the bridge")

    def _conclude(self, application: Application) -> int:
        say = self._say
        say("")
        self._expect(application.unsigned == 0, f"every webhook is signed; {application.unsigned} were not")
        if self._doubts:
            for doubt in self._doubts:
                say(f"Did not happen: {doubt}")
            return 1
        say("All of it happened: two calls, eight webhooks, each signed, in order, none missing; audio both ways.")
        command = _command()
        say(
            f"\nWhat to do next:\n"
            f"  {command} demo --stay\n      the same bridge, staying up for a phone of your own\n"
            f"  {command} serve --webhook http://127.0.0.1:3000/calls\n      the bridge with an application of yours; "
            f"examples/answer.py is one in 32 lines\n"
            f"  {command} call sip:{ANSWER}@127.0.0.1:5060\n      a phone that calls either of them"
        )
        return 0

    # What is shown

    def _now(self) -> float:
        return self._clock.now() - self._began

    def _note(self, text: str) -> None:
        self._ladder.note(self._now(), "phone", text)

    def _show_sip(self, seen: Seen) -> None:
        ends = ("phone", "bridge") if seen.way == "out" else ("bridge", "phone")
        self._ladder.arrow(self._now(), *ends, summary(seen.message))

    def _show_http(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "hook":
            text = f"{content['type']} #{content['data']['sequence']}"
            if content["type"] == "call.ended":
                text += f" ({content['data']['call']['ended']['reason']})"
            self._ladder.arrow(self._now(), "bridge", "application", text)
        else:
            names = ", ".join(f"{each['action']} {each.get('code', '')}".strip() for each in content["actions"])
            self._ladder.arrow(self._now(), "application", "bridge", f"200: {names}")

    # The bridge itself

    async def _start_bridge(self, stack: AsyncExitStack, place: Place) -> asyncio.subprocess.Process:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
        environ |= {
            "BRIDGE_WEBHOOKS__URL": f"http://127.0.0.1:{place.hook}/calls",
            "BRIDGE_WEBHOOKS__SECRETS": place.secret,
            "BRIDGE_SIP__LISTEN": f"udp:{host_port(place.host, place.sip)}",
            "BRIDGE_API__LISTEN": f"127.0.0.1:{place.api}",
            "BRIDGE_API__KEYS": json.dumps([{"name": "demo", "key": place.key, "scopes": ["control"]}]),
            "BRIDGE_DATA_DIR": str(place.data_dir),
            "BRIDGE_MEDIA__PORTS": _free_ports(place.host),
            "BRIDGE_MEDIA__WORKERS": "1",
            "BRIDGE_STORE__URL": "embedded://",
            "BRIDGE_LOG__LEVEL": "warning",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "serve"),
            env=environ,
            start_new_session=True,  # Ctrl-C is ours: it is told to end when the calls have been shown to the end
            preexec_fn=tied_to(os.getpid()),
        )
        stack.push_async_callback(_stop, process)
        deadline = self._clock.now() + READY_S
        async with ClientSession() as session:
            while not await _is_ready(session, place.api):
                if process.returncode is not None:
                    raise StartError(f"the bridge ended with code {process.returncode}; its lines above say why")
                if self._clock.now() > deadline:
                    raise StartError(f"the bridge was not ready after {READY_S:g} s")
                await asyncio.sleep(0.05)
        return process

    async def _stay(self, place: Place, bridge: asyncio.subprocess.Process) -> int:
        say, address = self._say, outward_address(place.host)
        called = place.uri(ANSWER)
        say(f"The bridge is up: SIP on udp:{host_port(place.host, place.sip)}, REST on http://127.0.0.1:{place.api}/v1")
        say(f"  Authorization: Bearer {place.key}")
        say(f"{ANSWER} is answered (you hear silence: joining calls is not in this release), {BUSY} is busy.")
        say("No registration. From another terminal, or a phone on this network:")
        say(f"  {_command()} call {called}")
        say(f"  baresip -e '/uanew <sip:me@{address}>;regint=0' -e '/dial {called}'")
        say(f"  linphonec, then: call {called}")
        say("The webhooks are shown below. Ctrl-C ends it.\n")
        self._began = self._clock.now()
        self._ladder = Ladder(("bridge", "application"), write=say)
        self._ladder.head()
        code = await bridge.wait()
        say(f"The bridge ended by itself, with code {code}; its lines above say why.")
        return 1


def demo(*, stay: bool, host: str, port: int | None, data_dir: Path | None, say: Say) -> int:
    """Run it; returns the exit code. StartError when the bridge does not start.

    SIGINT and SIGTERM end it: that is how `stay` is meant to end, and an interruption otherwise.
    """
    return asyncio.run(_until_told(Demo(say=say).run(stay=stay, host=host, port=port, data_dir=data_dir), stay=stay))


async def _until_told(run: Awaitable[int], *, stay: bool) -> int:
    running = asyncio.ensure_future(run)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    await asyncio.wait([running])
    if running.cancelled():
        return 0 if stay else INTERRUPTED
    return running.result()


def _counted(application: Application) -> int:
    """Alice's RTP packets, as `call.ended` tells."""
    ended = next((event for event in application.events_of("alice") if event["type"] == "call.ended"), None)
    quality = ((ended or {}).get("data", {}).get("quality")) or {}
    return int(quality.get("packets_received", 0))


def _command() -> str:
    """How to call `sip-bridge` from here: it may be in a virtual environment that is not active."""
    if shutil.which("sip-bridge") is not None:
        return "sip-bridge"
    beside = Path(sys.executable).parent / "sip-bridge"
    return os.path.relpath(beside) if beside.exists() else f"{sys.executable} -m bridge"


def _free_ports(host: str) -> str:
    """A range of UDP ports of which the first and the last are free: others on this machine may have theirs."""
    for first in range(_MEDIA_FIRST, _MEDIA_LAST, _MEDIA_PORTS):
        with ExitStack() as stack:
            try:
                for port in (first, first + _MEDIA_PORTS - 1):
                    stack.enter_context(socket.socket(_family(host), socket.SOCK_DGRAM)).bind((host, port))
            except OSError:
                continue
            return f"{first}-{first + _MEDIA_PORTS - 1}"
    raise StartError(f"no {_MEDIA_PORTS} free UDP ports between {_MEDIA_FIRST} and {_MEDIA_LAST} on {host}")


def _free_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(_family(host), kind) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise StartError(f"cannot listen on {host}: {error.strerror}") from error
        return int(probe.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _is_ready(session: ClientSession, port: int) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except ClientError:
        return False


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        process.kill()  # the kernel tells its children
        await process.wait()


async def _serve(stack: AsyncExitStack, app: web.Application, port: int) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", port).start()
