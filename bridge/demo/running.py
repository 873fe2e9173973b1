"""One run of the demo, from the first process to the last line."""

from __future__ import annotations

import asyncio
import signal
import socket
import tempfile
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

from bridge.ambient import SystemClock, SystemTokens
from bridge.demo.acts import Acts
from bridge.demo.application import ANSWER, BUSY, SENT_ON, Application
from bridge.demo.place import CALLEE, Place, free_port, our_command, start_application, start_bridge
from bridge.demo.score import Say, Score
from bridge.net.addresses import host_port, outward_address

INTERRUPTED = 130  # as a shell counts Ctrl-C


class Demo:
    """One run."""

    def __init__(self, *, say: Say) -> None:
        self._say = say
        self._clock = SystemClock()
        self._tokens = SystemTokens()
        self._score = Score(clock=self._clock, say=say)

    async def run(self, *, stay: bool, host: str, port: int | None, data_dir: Path | None) -> int:
        """The exit code: 0 only if all of it happened. Canceled, it ends what it has started."""
        async with AsyncExitStack() as stack:
            kept = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-demo-")))
            sip = port if port is not None else free_port(host, socket.SOCK_DGRAM)
            token = self._tokens.token
            place = Place(host, sip, free_port(), free_port(), kept, key=token(24), password=token(12))
            application = Application(place.secret, self._score.http, callee=place.uri(CALLEE))
            await start_application(stack, application.app(), place.hook)
            self._say(
                f"Starting a bridge on udp:{host_port(place.host, place.sip)}, with a store of its own, and an application "
                f"on http://127.0.0.1:{place.hook}/calls."
            )
            bridge = await start_bridge(stack, place, clock=self._clock)
            if stay:
                return await self._stay(place, bridge)
            acts = Acts(place, application, self._score)
            await acts.play()
            return self._conclude(acts, application)

    def _conclude(self, acts: Acts, application: Application) -> int:
        say = self._say
        say("")
        if acts.doubts:
            for doubt in acts.doubts:
                say(f"Did not happen: {doubt}")
            return 1
        say(
            f"All of it happened: a phone registered, three called, one of them was joined with it; {len(application.events)} "
            "webhooks,\neach signed, in order, none missing; audio both ways."
        )
        command = our_command()
        say(
            f"\nWhat to do next:\n"
            f"  {command} demo --stay\n      the same bridge, staying up for phones of your own\n"
            f"  {command} serve --webhook http://127.0.0.1:3000/calls\n      the bridge with an application of yours; "
            f"examples/answer.py is one in 34 lines\n"
            f"  {command} call sip:{ANSWER}@127.0.0.1:5060\n      a phone that calls either of them\n"
            f"  {command} phone --port 5070\n      a phone that is called, at sip:phone@127.0.0.1:5070"
        )
        return 0

    async def _stay(self, place: Place, bridge: asyncio.subprocess.Process) -> int:
        say, address = self._say, outward_address(place.host)
        called, domain = place.uri(ANSWER), host_port(address, place.sip)
        say(f"The bridge is up: SIP on udp:{host_port(place.host, place.sip)}, REST on http://127.0.0.1:{place.api}/v1")
        say(f"  Authorization: Bearer {place.key}")
        say(
            f"{ANSWER} is answered (you hear silence), {BUSY} is busy, {SENT_ON} is sent to whoever registers as {CALLEE}."
        )
        say("\nCall, from another terminal or a phone on this network; no registration is needed for that:")
        say(f"  {our_command()} call {called}")
        say(f"  baresip -e '/uanew <sip:me@{address}>;regint=0' -e '/dial {called}'")
        say(f"  linphonec, then: call {called}")
        say(f"\nBe called: register as {CALLEE}, and call {SENT_ON} from elsewhere:")
        say(f"  SIP_PASSWORD={place.password} {our_command()} phone --register {place.uri(CALLEE)}")
        say(f"  baresip -e '/uanew <{place.uri(CALLEE)}>;auth_pass={place.password}'")
        say(f"  linphonec, then: register {place.uri(CALLEE)} sip:{domain} {place.password}")
        say("\nThe webhooks are shown below. Ctrl-C ends it.\n")
        self._score.without_phones()
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
