"""JsSIP, the SIP stack of many web phones, under Node: tests/interop/jssip/phone.js, driven by JSON lines."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import find_program
from tests.support.waiting import until

HOME = Path(__file__).parents[1] / "interop" / "jssip"


class JsSip:
    """One phone. It ends with its standard input, and so with us."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[dict[str, Any]] = []
        self._process = process
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def started(
        cls, url: str, uri: str, password: str, *, ca: Path | None = None, origin: str | None = None
    ) -> JsSip:
        """`url`: several with commas between them, the preferred one first; `ca`: whom it trusts for `wss:`; `origin`: of the page that it claims to be."""
        node = find_program("node")
        if not (HOME / "node_modules" / "jssip").is_dir():
            text = "JsSIP is missing: make system-deps installs it"
            if os.environ.get("CI") == "true":
                pytest.fail(text)
            pytest.skip(text)
        environ = {
            **os.environ,
            **({"NODE_EXTRA_CA_CERTS": str(ca)} if ca else {}),
            **({"ORIGIN": origin} if origin else {}),
        }
        process = await asyncio.create_subprocess_exec(
            node,
            str(HOME / "phone.js"),
            url,
            uri,
            password,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environ,
        )
        return cls(process)

    def do(self, command: str, **more: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, **more}).encode() + b"\n")

    async def said(self, event: str, number: int = 1) -> dict[str, Any]:
        """Wait for the first event of this name, or for a later one."""

        def found() -> list[dict[str, Any]]:
            return [each for each in self.events if each["event"] == event]

        await until(lambda: len(found()) >= number, f"JsSIP says {event}")
        return found()[number - 1]

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.events.append(json.loads(line))
