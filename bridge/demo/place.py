"""Where the demo's bridge and application live: free ports, a directory, and the process of `sip-bridge serve`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientError, ClientSession, web

from bridge.ambient import Clock
from bridge.children import tied_to
from bridge.errors import StartError
from bridge.net.addresses import host_port, outward_address
from bridge.webhooks.signing import new_secret

CALLEE = "dave"  # the one user who may register
READY_S = 60.0
STOP_S = 15.0  # what the bridge gets to end its calls; then it is killed
_MEDIA_FIRST, _MEDIA_LAST, _MEDIA_PORTS = 20_000, 32_000, 200


@dataclass
class Place:
    """Where the demo's bridge listens, and what it shares with the others."""

    host: str
    sip: int
    api: int
    hook: int
    data_dir: Path
    key: str
    password: str  # of `CALLEE`
    secret: str = field(default_factory=new_secret)

    def uri(self, user: str) -> str:
        """What a phone calls."""
        return f"sip:{user}@{host_port(outward_address(self.host), self.sip)}"


async def start_bridge(stack: AsyncExitStack, place: Place, *, clock: Clock) -> asyncio.subprocess.Process:
    """`sip-bridge serve`, ready; ended with the stack. StartError when it does not get there."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
    environ |= {
        "BRIDGE_WEBHOOKS__URL": f"http://127.0.0.1:{place.hook}/calls",
        "BRIDGE_WEBHOOKS__SECRETS": place.secret,
        "BRIDGE_SIP__LISTEN": f"udp:{host_port(place.host, place.sip)}",
        "BRIDGE_USERS": json.dumps([{"username": CALLEE, "password": place.password}]),
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
    deadline = clock.now() + READY_S
    async with ClientSession() as session:
        while not await _is_ready(session, place.api):
            if process.returncode is not None:
                raise StartError(f"the bridge ended with code {process.returncode}; its lines above say why")
            if clock.now() > deadline:
                raise StartError(f"the bridge was not ready after {READY_S:g} s")
            await asyncio.sleep(0.05)
    return process


async def start_application(stack: AsyncExitStack, app: web.Application, port: int) -> None:
    """Serve it on loopback, until the stack ends."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", port).start()


def free_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(_family(host), kind) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise StartError(f"cannot listen on {host}: {error.strerror}") from error
        return int(probe.getsockname()[1])


def our_command() -> str:
    """How to call `sip-bridge` from here: it may be in a virtual environment that is not active."""
    if shutil.which("sip-bridge") is not None:
        return "sip-bridge"
    beside = Path(sys.executable).parent / "sip-bridge"
    return os.path.relpath(beside) if beside.exists() else f"{sys.executable} -m bridge"


def _free_ports(host: str) -> str:
    """A range of UDP ports of which the first and the last are free: others on this machine may have theirs."""
    ranges = range(_MEDIA_FIRST, _MEDIA_LAST, _MEDIA_PORTS)
    for step in range(len(ranges)):
        first = ranges[(os.getpid() + step) % len(ranges)]  # two demos that start together look at different ones
        with ExitStack() as stack:
            try:
                for port in (first, first + _MEDIA_PORTS - 1):
                    stack.enter_context(socket.socket(_family(host), socket.SOCK_DGRAM)).bind((host, port))
            except OSError:
                continue
            return f"{first}-{first + _MEDIA_PORTS - 1}"
    raise StartError(f"no {_MEDIA_PORTS} free UDP ports between {_MEDIA_FIRST} and {_MEDIA_LAST} on {host}")


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
