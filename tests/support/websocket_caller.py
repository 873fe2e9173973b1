"""The caller of `caller`, over WebSocket: its Via and Contact have a name that nobody can look up (RFC 7118 §5)."""

from __future__ import annotations

import asyncio

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from tests.support.caller import Caller
from tests.support.phone import Address, read_message

WEBRTC = (
    "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n"
    "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n"
    "a=rtpmap:111 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\n"
)


class WebSocketCaller(Caller):
    """One connection, which it has made."""

    via = "WS"

    def __init__(self, target: Address) -> None:
        super().__init__(target)
        self.close_code: int | None = None  # that the bridge has said
        self._session = ClientSession()
        self._socket: ClientWebSocketResponse

    async def open(self) -> None:
        await super().open()  # for RTP
        host, port = self.target
        self._socket = await self._session.ws_connect(f"ws://{host}:{port}/", protocols=("sip",))
        self._tasks.add(asyncio.create_task(self._read()))

    async def leave(self) -> None:
        await self._session.close()
        self.close()

    def send_to(self, data: bytes | str, to: Address) -> None:
        task = asyncio.create_task(self._socket.send_str(data if isinstance(data, str) else data.decode()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self) -> None:
        while True:
            came = await self._socket.receive()
            if came.type is not WSMsgType.TEXT:
                self.close_code = self._socket.close_code
                return
            self.take(read_message(came.data.encode()), self.target)
