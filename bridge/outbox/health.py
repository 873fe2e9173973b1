"""What went wrong with an endpoint, in one line that says what to do.

For the console of somebody who is writing an application and wonders why nothing arrives. Pure text: the adapters log
it. No line holds a secret: credentials and the values of a query are masked in every URL that is shown.
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from bridge.outbox.schedule import Outcome, Unusable

_ERRORS = {
    "refused": "nothing listens at {origin}. Is the application running there?",
    "unreachable": "there is no way to {origin}. Check the address, the network and its firewalls",
    "dns": "the host name in {origin} cannot be resolved. Is it spelled right, and known on this machine?",
    "tls": "no trusted TLS with {origin}. Is its certificate valid for that name, or does it speak plain http?",
    "closed": "{origin} closed the connection before its answer was complete. Look for a crash in the application's log",
    "protocol": "what {origin} sends is no HTTP answer. Does another kind of server listen there?",
    "too_large": "{url} answered with more than 64 KiB. Answer with the actions only",
    "invalid_url": "{url} is no URL that a webhook can be sent to. Give http:// or https://, a host and a path",
    "unsigned": "there is no secret to sign with for {url}. Give one in `webhooks.secrets`",
    "canceled": "the webhook to {url} was broken off because the bridge stops; it is sent again at the next start",
}

_STATUSES = {
    400: "{url} calls our request bad. Does it expect another body, or verify the signature with another secret?",
    401: "{url} wants other credentials. Verify the signature with the secret configured here, or put user and password "
    "into the URL",
    403: "{url} forbids the request. Does something in front of the application (proxy, CSRF check) keep it out?",
    404: "{origin} is there but knows no such path. Check the path of the webhook's URL",
    405: "{url} does not take POST. Register the application's handler for POST",
    410: "{url} is gone for good: it gets no more webhooks until it is configured anew",
    413: "{url} refuses bodies of this size. Raise the application's limit to 64 KiB",
    415: "{url} does not take application/json. Let the application read the body as JSON",
    422: "{url} cannot use our body. Does its model of the event know all fields, and ignore unknown ones?",
    429: "{url} asks for fewer requests. Raise its rate limit for webhooks",
    502: "the proxy at {origin} does not get through to the application. Is it running behind it?",
    503: "{url} is not ready. Is the application starting, or overloaded?",
    504: "the proxy at {origin} gave up waiting for the application. Answer first, work afterwards",
}


def advice(url: str, outcome: Outcome, invalid: Unusable | None = None) -> str:
    """One line of plain English about a failed attempt at `url`: what happened, and what to do about it.

    `invalid` is what the contract made of a decision's reply, where that is what failed.
    """
    text = _advice(outcome, invalid).format(url=mask_url(url), origin=_origin(url), **_facts(outcome, invalid))
    line = " ".join(text.split())
    return line if line.endswith((".", "?")) else f"{line}."


def mask_url(url: str) -> str:
    """`url` fit to be shown: without user, password and the values of its query."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(a URL that cannot be read)"
    credentials = "***@" if "@" in parts.netloc else ""
    query = "&".join(f"{pair.partition('=')[0]}=***" if "=" in pair else "***" for pair in parts.query.split("&"))
    return urlunsplit((parts.scheme, credentials + host, parts.path, query if parts.query else "", ""))


def _origin(url: str) -> str:
    masked = mask_url(url)
    scheme, separator, rest = masked.partition("://")
    return scheme + separator + rest.split("/", 1)[0].split("?", 1)[0] if separator else masked


def _facts(outcome: Outcome, invalid: Unusable | None) -> dict[str, str]:
    return {
        "status": str(outcome.status),
        "took": f"{outcome.took_s:.1f} s" if outcome.took_s >= 0.1 else f"{outcome.took_s * 1000:.0f} ms",
        "detail": outcome.detail,
        "invalid": invalid.detail if invalid else "",
        "field": (invalid.field or "") if invalid else "",
    }


def _advice(outcome: Outcome, invalid: Unusable | None) -> str:
    status, error = outcome.status, outcome.error
    if invalid is not None:
        where = "; the field is `{field}`" if invalid.field else ""
        return "{url} replied with something that is no list of actions: {invalid}" + where
    if error == "timeout":
        began = "began an answer and did not end it" if status is not None else "did not answer"
        return "{url} " + began + " within {took}. Answer first, work afterwards"
    if error is not None:
        return _ERRORS[error] + (" ({detail})" if outcome.detail else "")
    if status is None:
        return "{url} brought no answer"
    if outcome.delivered:
        return "{url} took the webhook ({status}) after {took}"
    if 300 <= status < 400:
        to = " to {detail}" if outcome.detail else ""
        return "{url} redirects ({status})" + to + ". Redirects are not followed: configure the final URL"
    known = _STATUSES.get(status)
    if known is not None:
        return known + " ({status})"
    if status >= 500:
        return "{url} failed ({status}). Look into the application's log"
    return "{url} answered {status}. A webhook wants any 2xx"
