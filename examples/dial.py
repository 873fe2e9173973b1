"""Sends whoever calls 2.. on to a phone; is that busy or silent, to the next one; is there nobody, it says so."""

import os

from aiohttp import web

TARGETS = os.environ.get("TARGETS", "sip:phone@127.0.0.1:5070").split(",")


async def calls(request: web.Request) -> web.Response:
    event = await request.json()  # examples/answer.py shows how to verify that it is the bridge's
    if "call" not in event["data"]:
        return web.Response()  # a phone has registered
    call = event["data"]["call"]
    told = event["data"].get("reason") or call["ended"] or ""
    print(event["type"], call["id"], call["from"]["uri"], "->", call["to"]["uri"], told, flush=True)
    if event["type"] != "call.incoming":
        return web.Response()
    if not call["to"]["user"].startswith("2"):
        return web.json_response({"actions": [{"action": "reject", "code": 404}]})
    return web.json_response(
        {
            "actions": [
                {"action": "dial", "to": TARGETS, "fork": "serial", "timeout_s": 20},
                {"action": "reject", "code": 480, "reason": "Nobody There"},  # when nobody has answered
            ]
        }
    )


app = web.Application()
app.router.add_post("/calls", calls)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "3000")), print=None)
