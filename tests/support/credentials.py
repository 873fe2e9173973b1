"""The side of a digest that asks (RFC 7616), for callees that want to know who calls. Computed here by the RFC's formulas."""

from __future__ import annotations

import hashlib
import re

from tests.support.callee import Behaviour, IncomingCall
from tests.support.phone import Message, token

REALM = "tests"
ASKS = {401: ("WWW-Authenticate", "authorization"), 407: ("Proxy-Authenticate", "proxy-authorization")}
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


def wants(username: str, password: str, *, status: int, algorithm: str) -> Behaviour:
    """Challenges the first INVITE of a call, and answers one that proves who it is; any other is challenged again."""
    header, proof_header = ASKS[status]
    nonces: dict[str, str] = {}  # by Call-ID

    def behaviour(call: IncomingCall) -> None:
        nonce = nonces.setdefault(call.call_id, token(24))
        if _proves(call.invite, proof_header, (username, password), nonce, algorithm):
            call.accept()
            return
        call.say(
            status,
            headers=f'{header}: Digest realm="{REALM}", nonce="{nonce}", algorithm={algorithm}, qop="auth"\r\n',
        )

    return behaviour


def _proves(invite: Message, header: str, known: tuple[str, str], nonce: str, algorithm: str) -> bool:
    given = dict(re.findall(r'(\w+)="?([^",]*)"?', invite[header].removeprefix("Digest ")))
    if given.get("nonce") != nonce or given.get("username") != known[0]:
        return False

    def digest(*parts: str) -> str:
        return _HASHES[algorithm](":".join(parts).encode()).hexdigest()

    ours = digest(known[0], REALM, known[1])
    asked = digest(invite.method, given["uri"])
    wanted = digest(ours, nonce, given["nc"], given["cnonce"], given["qop"], asked)
    return given["response"] == wanted and given["uri"] == invite.start.split()[1]
