"""rtpengine as a peer of W3: in user space (`--table=-1`), told of its calls by its ng protocol: bencode over UDP."""

from __future__ import annotations

import re
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

from benchmarks.processes import BenchmarkError, Process

PROGRAM = "rtpengine"
NG_PORT = 2223
PATIENCE_S = 2.0
ATTEMPTS = 5

Value = str | list[str] | dict[str, "Value"]


def bencode(value: Value) -> bytes:
    """A value of the ng protocol; the keys of a dictionary are sorted, as bencode wants it."""
    match value:
        case str():
            data = value.encode()
            return b"%d:%s" % (len(data), data)
        case list():
            return b"l" + b"".join(bencode(item) for item in value) + b"e"
        case dict():
            return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


class Rtpengine:
    """A running rtpengine on a host of its own."""

    def __init__(self, ends: ExitStack, directory: Path, host: str) -> None:
        """BenchmarkError where it is not installed or does not come up."""
        if shutil.which(PROGRAM) is None:
            raise BenchmarkError("W3: rtpengine is not installed (`apt-get install rtpengine-daemon`): not measured")
        self._host = host
        command = [PROGRAM, "--config-file=none", "--foreground", "--log-stderr", "--log-level=4", "--table=-1"]
        command += [f"--interface={host}", f"--listen-ng={host}:{NG_PORT}", "--port-min=20000", "--port-max=32000"]
        self.process = Process(PROGRAM, [*command, "--tos=184"], directory=directory)
        ends.callback(self.process.end)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ends.callback(self._socket.close)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect((host, NG_PORT))
        self._asked = 0
        self.process.await_ready(self._answers)

    def open(self, call: str, first: tuple[str, int], second: tuple[str, int]) -> tuple[int, int]:
        """Its ports for two phones that hear each other: the first's, the second's."""
        told: dict[str, Value] = {"call-id": call, "from-tag": "a", "replace": ["origin"], "ICE": "remove"}
        towards_second = self._ask({**told, "command": "offer", "sdp": _sdp(first)})
        towards_first = self._ask({**told, "command": "answer", "to-tag": "b", "sdp": _sdp(second)})
        return _port(towards_first), _port(towards_second)

    def _answers(self) -> bool:
        try:
            return b"pong" in self._ask({"command": "ping"}, attempts=1)
        except BenchmarkError:
            return False

    def _ask(self, told: dict[str, Value], *, attempts: int = ATTEMPTS) -> bytes:
        self._asked += 1
        cookie = b"%d " % self._asked
        for _ in range(attempts):
            try:
                self._socket.send(cookie + bencode(told))
                while not (answer := self._socket.recv(65536)).startswith(cookie):
                    pass  # to an earlier question, asked twice
            except OSError:
                continue
            return answer
        raise BenchmarkError(f"rtpengine does not answer:\n{self.process.last_words()}")


def _sdp(phone: tuple[str, int]) -> str:
    host, port = phone
    lines = ["v=0", f"o=- 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0", f"m=audio {port} RTP/AVP 0 101"]
    lines += ["a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000", "a=sendrecv", ""]
    return "\r\n".join(lines)


def _port(answer: bytes) -> int:
    found = re.search(rb"m=audio (\d+) ", answer)
    if found is None:
        raise BenchmarkError(f"rtpengine refused a call: {answer[:200]!r}")
    return int(found[1])
