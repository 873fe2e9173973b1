"""baresip, a real phone, without a sound card: it says a tone and keeps what it hears.

Started with the command line that the README gives, driven through its `ctrl_tcp` module.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
import wave
from pathlib import Path
from typing import Any

from tests.support.namespaces import LOOPBACK, Host
from tests.support.programs import PORTS, Program, find_program, tail
from tests.support.waiting import PATIENCE_S, until

_CONFIG = """\
module_path {modules}
module g711.so
module aufile.so
module ctrl_tcp.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
ctrl_tcp_listen {host}:{control}
sip_listen {host}:{sip}
rtp_ports {rtp}-{rtp_last}
audio_source aufile,{tone}
audio_player aufile,{heard}
audio_alert aufile,{alert}
"""


class Baresip:
    """One phone."""

    def __init__(self, directory: Path, *, host: Host = LOOPBACK, more: str = "") -> None:
        """`more`: lines of its configuration, besides those that every phone here has."""
        self.host = host
        self._more = more
        self.events: list[dict[str, Any]] = []
        self._directory = directory
        self.port = PORTS.block(2)  # the next one is for TLS
        self._control = PORTS.one()
        self._program: Program | None = None
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def uri(self) -> str:
        """Under which it can be called, as long as it has no account."""
        return f"sip:me@{self.host.address}:{self.port}"

    async def start(self, dial: str | None = None, *, account: str | None = None) -> None:
        """`dial`: whom to call as soon as it is up, before anybody can see its events. `account`: a line of its file of
        accounts, to register with; without one it has a name for calls only."""
        directory = self._directory
        directory.mkdir(parents=True)
        rtp = PORTS.block(10)
        binary = find_program("baresip")
        config = _CONFIG.format(
            modules=_modules(binary),
            host=self.host.address,
            control=self._control,
            sip=self.port,
            rtp=rtp,
            rtp_last=rtp + 9,
            tone=directory / "tone.wav",
            heard=directory / "heard.wav",
            alert=directory / "alert.wav",
        )
        (directory / "config").write_text(config + self._more)
        (directory / "accounts").write_text(f"{account}\n" if account else "")
        (directory / "contacts").touch()
        _write_tone(directory / "tone.wav", seconds=60)
        # As the README has it, but for the directory of its configuration.
        command = [binary, "-f", str(directory)]
        command += [] if account else ["-e", f"/uanew <sip:me@{self.host.address}>;regint=0"]
        command += ["-e", f"/dial {dial}"] if dial else []
        self._program = Program(self.host.command(command), output=directory / "output", directory=directory)
        await self._connect()

    async def stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        if self._writer is not None:
            self._writer.close()
        if self._program is not None:
            self._program.kill()

    def said(self) -> str:
        """All that a person would have seen so far."""
        assert self._program is not None
        return self._program.said()

    async def command(self, name: str, parameters: str = "") -> None:
        """What a person would type, without the slash."""
        assert self._writer is not None
        body = json.dumps({"command": name, "params": parameters, "token": "tests"})
        self._writer.write(f"{len(body)}:{body},".encode())
        await self._writer.drain()

    async def registered(self) -> None:
        """Wait until its registration is accepted, which may be before anybody can see its events."""
        await until(lambda: "} 200 OK (" in self.said(), lambda: f"it is registered:\n{self.said()}")

    async def event(self, kind: str, *, number: int = 1, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait for the `number`-th event of this type, such as CALL_ESTABLISHED."""

        def found() -> list[dict[str, Any]]:
            return [event for event in self.events if event.get("type") == kind][number - 1 : number]

        def seen() -> str:
            return f"{kind}; came: {self.events}\n{tail(self._directory / 'output')}"

        return (await until(found, seen, within_s=within_s))[0]

    async def _connect(self) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            link = self.host.stream_socket()
            try:
                await asyncio.get_running_loop().sock_connect(link, (self.host.address, self._control))
                reader, self._writer = await asyncio.open_connection(sock=link)
                break
            except OSError:
                link.close()
                assert asyncio.get_running_loop().time() < deadline, tail(self._directory / "output")
                await asyncio.sleep(0.02)
        self._reader = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Netstrings of JSON."""
        while True:
            try:
                length = int((await reader.readuntil(b":"))[:-1])
                body = await reader.readexactly(length + 1)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            self.events.append(json.loads(body[:-1]))


def _modules(binary: str) -> Path:
    """Where the package has put its modules."""
    places = [Path(binary).parent.parent / "lib" / "baresip" / "modules", *Path("/usr/lib").glob("*/baresip/modules")]
    found = next((place for place in places if (place / "g711.so").exists()), None)
    assert found is not None, f"baresip's modules are not in {places}"
    return found


def _write_tone(path: Path, *, seconds: int) -> None:
    """440 Hz, as G.711 samples it."""
    second = b"".join(struct.pack("<h", int(8000 * math.sin(2 * math.pi * 440 * at / 8000))) for at in range(8000))
    with wave.open(str(path), "wb") as tone:
        tone.setnchannels(1)
        tone.setsampwidth(2)
        tone.setframerate(8000)
        tone.writeframes(second * seconds)
