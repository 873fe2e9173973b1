"""The closed list of what can be wrong, as REST tells it (RFC 9457), and the page that documents it.

One table: a code, its HTTP status, its title, and what to do about it. `type` of every problem points into the page.
Knows nothing of how a problem comes about or is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from bridge.contract.events import FAILURES
from bridge.contract.refusals import Refusal

Code = Literal[
    "malformed",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "wrong_state",
    "ended",
    "merged",
    "managed_by_file",
    "too_large",
    "unsupported_media_type",
    "expectation_failed",
    "invalid",
    "no_route",
    "key_reused",
    "internal_error",
    "not_ready",
    "node_unreachable",
    "overload",
    "store_unavailable",
    "timeout",
]

PAGE = "/docs/errors"
RETRY_AFTER_S = 2  # said with every 503: a store that restarts or fails over is back in about this time


@dataclass(frozen=True, slots=True)
class Kind:
    """One line of the table."""

    status: int
    title: str
    remedy: str  # what it means and what to do, for the page


KINDS: dict[Code, Kind] = {
    "malformed": Kind(
        400, "Malformed request", "The body is no JSON, or the request breaks HTTP. Correct it; do not repeat it."
    ),
    "unauthorized": Kind(
        401, "Unauthorized", "No API key, or one that is not configured. Send `Authorization: Bearer <key>`."
    ),
    "forbidden": Kind(403, "Forbidden", "The API key has not the scope that this asks for; `detail` names it."),
    "not_found": Kind(
        404,
        "Not found",
        "No such path, call, conversation, registration, user or node. Ended calls stay for `store.retention_s`.",
    ),
    "method_not_allowed": Kind(
        405, "Method not allowed", "The path exists, not with this method. `Allow` lists those it has."
    ),
    "wrong_state": Kind(
        409,
        "Wrong state",
        "What was asked does not fit the state of the call, or the release of the node. Nothing has changed.",
    ),
    "managed_by_file": Kind(
        409, "Managed by file", "It stands in the configuration file and is read-only here. Change the file."
    ),
    "ended": Kind(
        410, "Call has ended", "The call is over; no action can reach it any more. Read it to see why it ended."
    ),
    "merged": Kind(
        410, "Conversation has been merged", "A join has moved its calls to another one, which `merged_into` names."
    ),
    "too_large": Kind(413, "Body too large", "Request bodies are limited to 64 KiB."),
    "unsupported_media_type": Kind(
        415, "Unsupported media type", "Bodies are JSON in UTF-8, uncompressed: `Content-Type: application/json`."
    ),
    "expectation_failed": Kind(417, "Expectation failed", "The only `Expect` that is understood is `100-continue`."),
    "invalid": Kind(
        422, "Invalid request", "A field is unknown, missing or out of range. `errors` names each by its JSON path."
    ),
    "no_route": Kind(422, "No route", "A number needs a trunk. Give `uri` and `trunk`, or a `sip:` or `sips:` URI."),
    "key_reused": Kind(
        422,
        "Idempotency key reused",
        "This `Idempotency-Key` came with another request before. Draw a new one for each.",
    ),
    "internal_error": Kind(
        500, "Internal error", "A defect of this service; its log has the details. Please report it."
    ),
    "not_ready": Kind(
        503, "Not ready", "This process takes no new calls: it is starting, or draining. `Retry-After` says when."
    ),
    "node_unreachable": Kind(
        503,
        "Node unreachable",
        "The node is known and does not answer. `GET /v1/nodes` says whether it is alive; a dead one's calls others carry on.",
    ),
    "overload": Kind(
        503,
        "Overload",
        "This node carries as many calls as it may (`limits.max_calls`). Try again after `Retry-After`.",
    ),
    "store_unavailable": Kind(
        503, "Store unavailable", "The store did not answer. Calls go on. Try again after `Retry-After`."
    ),
    "timeout": Kind(
        503,
        "No answer in time",
        "The command was not confirmed in time and may still be carried out. Read the call first.",
    ),
}


def problem(
    code: Code, detail: str, *, call_id: str | None = None, refusals: tuple[Refusal, ...] = ()
) -> dict[str, Any]:
    """The body of one problem (`models.Problem`)."""
    kind = KINDS[code]
    body: dict[str, Any] = {
        "type": f"{PAGE}#{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
    }
    if call_id is not None:
        body["call_id"] = call_id
    if refusals:
        body["errors"] = [
            {"field": it.field, "detail": f"{it.detail}; received {it.received}" if it.received else it.detail}
            for it in refusals
        ]
    return body


def page() -> str:
    """The documented list, as Markdown."""
    lines = [
        "# Errors",
        "",
        "Every error of the API is `application/problem+json` (RFC 9457) with one of these codes in `code`;",
        f"its `type` points here (`{PAGE}#wrong_state`). The list is closed: within v1 codes may be added, never changed.",
        "",
    ]
    for code, kind in KINDS.items():
        lines += [f"## {code}", "", f"{kind.status} · {kind.title}. {kind.remedy}", ""]
    lines += ["# Failed actions", "", "What the event `action.failed` may say in `code`.", ""]
    for failure, meaning in FAILURES.items():
        lines += [f"## action.failed: {failure}", "", meaning, ""]
    return "\n".join(lines)
