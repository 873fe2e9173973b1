"""Every Python of the pages compiles; what verifies a signature verifies ours; what is quoted stands in the code so."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from bridge.ambient import SystemClock
from bridge.webhooks.signing import new_secret, sign
from tests.docs.pages import ROOT, Block, blocks, page

BODY = '{"id": "evt_1", "type": "call.incoming"}'
SECRET = new_secret()


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block: Block) -> None:
    ast.parse(block.text)


def _quoted() -> list[Block]:
    return [block for block in blocks("python") if block.text.startswith("# bridge/")]


@pytest.mark.parametrize("block", _quoted(), ids=str)
def test_quoted_code_is_the_code(block: Block) -> None:
    first, _, rest = block.text.partition("\n")
    file = (ROOT / first.removeprefix("# ")).read_text(encoding="utf-8")
    for line in rest.splitlines():
        assert f"{line}  #" in file or f"{line}\n" in file, line


def signed(secret: str, body: str, *, at: float) -> dict[str, str]:
    signature = sign([new_secret(), secret], "evt_1", int(at), body.encode())
    return {"webhook-id": "evt_1", "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def snippet(containing: str) -> str:
    found = [block for block in page("docs/webhooks.md").blocks if containing in block.text]
    assert len(found) == 1
    return found[0].text


def run(body: str, headers: dict[str, str]) -> dict[str, Any]:
    names: dict[str, Any] = {"body": body, "headers": headers}
    exec(compile(snippet("standardwebhooks").replace("whsec_…", SECRET), "docs/webhooks.md", "exec"), names)
    return names


def test_the_library_verifies_as_shown() -> None:
    assert run(BODY, signed(SECRET, BODY, at=SystemClock().now()))["event"]["type"] == "call.incoming"


def test_the_library_refuses_another_secret_as_told() -> None:
    with pytest.raises(WebhookVerificationError):
        run(BODY, signed(new_secret(), BODY, at=SystemClock().now()))
    assert "`WebhookVerificationError`" in page("docs/webhooks.md").text


def by_hand(headers: dict[str, str], body: str) -> bool:
    names: dict[str, Any] = {}
    exec(compile(snippet("def is_ours"), "docs/webhooks.md", "exec"), names)
    verdict: bool = names["is_ours"](SECRET, headers, body.encode())
    return verdict


def test_by_hand_it_verifies() -> None:
    now = SystemClock().now()
    headers = signed(SECRET, BODY, at=now)
    assert by_hand(headers, BODY)
    assert not by_hand(headers, BODY.replace("incoming", "answered"))
    assert not by_hand(headers | {"webhook-id": "evt_2"}, BODY)
    assert not by_hand(signed(new_secret(), BODY, at=now), BODY)
    assert not by_hand(signed(SECRET, BODY, at=now - 301), BODY)
