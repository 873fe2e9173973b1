"""A redirect server: tells whoever calls 7.. where else to look, and is out of it. TARGETS says where, the preferred one first."""

import os

from aiohttp import web

TARGETS = os.environ.get("TARGETS", "sip:phone@127.0.0.1:5070").split(",")


def contacts() -> list[dict[str, object]]:
    """Each a little less preferred than the one before it: the caller tries them in the order of q."""
    return [{"uri": uri, "q": round(1 - place / 10, 1)} for place, uri in enumerate(TARGETS[:10])]


async def calls(request: web.Request) -> web.Response:
    event = await request.json()  # examples/answer.py shows how to verify that it is the bridge's
    if "call" not in event["data"]:
        return web.Response()  # a phone has registered
    call = event["data"]["call"]
    print(event["type"], call["id"], call["from"]["uri"], event["data"].get("contacts") or "", flush=True)
    if event["type"] != "call.incoming":
        return web.Response()
    if not call["to"]["user"].startswith("7"):
        return web.json_response({"actions": [{"action": "reject", "code": 404}]})
    return web.json_response({"actions": [{"action": "redirect", "contacts": contacts()}]})


app = web.Application()
app.router.add_post("/calls", calls)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "3000")), print=None)
