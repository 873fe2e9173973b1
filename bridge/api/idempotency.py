"""`Idempotency-Key`: the same request again gets the first answer again (contract §2, survival §6).

What is remembered is in the store, claimed in the same step as what the request made; here a key is read, a request is
told from another by its fingerprint, and a remembered answer is given again. Only an answer that made something is
remembered: a request that was refused, or of which nobody knows, may be sent again as if it were the first.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Final

from aiohttp import web

from bridge.api.auth import CALLER
from bridge.api.problems import invalid, problem_response
from bridge.contract.originating import KEY_PATTERN
from bridge.contract.refusals import Refusal, quote
from bridge.engine.commit import Claim, Remembered

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"

_KEY = re.compile(KEY_PATTERN)


async def read_claim(request: web.Request) -> Claim | web.Response | None:
    """What this request, whose body has been found right, claims; None without a key, or the answer to a wrong one."""
    given = request.headers.getall(HEADER, ())
    if not given:
        return None
    if len(given) > 1:
        return invalid((Refusal(HEADER, "given more than once"),))
    if not _KEY.fullmatch(given[0]):
        return invalid((Refusal(HEADER, "should be 1 to 255 ASCII characters without spaces", quote(given[0])),))
    # No name of an API key has a colon: nobody can choose a key that is another's.
    return Claim(f"{request[CALLER].name}:{given[0]}", _fingerprint(request, await request.read()))


def replay(claim: Claim, remembered: Remembered) -> web.Response:
    """The first answer again, or that the key was used for something else."""
    if remembered.fingerprint != claim.fingerprint:
        return problem_response("key_reused", f"this `{HEADER}` came with another request before")
    return created(remembered.call, remembered.body, status=remembered.status, replayed=True)


def created(call: str, body: bytes, *, status: int = 201, replayed: bool = False) -> web.Response:
    """A call was made. The same bytes whenever this is said."""
    headers = {"Cache-Control": "no-store", "Location": f"/v1/calls/{call}"}
    if replayed:
        headers[REPLAYED] = "true"
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _fingerprint(request: web.Request, body: bytes) -> str:
    """The same for the same request, however its JSON is spaced and ordered."""
    canonical = json.dumps(json.loads(body or b"{}"), sort_keys=True, separators=(",", ":"))
    return sha256(f"{request.method} {request.path}\n{canonical}".encode()).hexdigest()
