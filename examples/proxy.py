"""A proxy: lets two phones ring for whoever calls 6.., gives the call to the first who answers, and is out of it."""

import os

from aiohttp import web

TARGETS = os.environ.get("TARGETS", "sip:phone@127.0.0.1:5070,sip:phone@127.0.0.1:5071").split(",")


async def calls(request: web.Request) -> web.Response:
    event = await request.json()  # examples/answer.py shows how to verify that it is the bridge's
    if "call" not in event["data"]:
        return web.Response()  # a phone has registered
    call = event["data"]["call"]
    print(event["type"], call["id"], call["from"]["uri"], event["data"].get("target") or "", flush=True)
    if event["type"] != "call.incoming":
        return web.Response()
    if not call["to"]["user"].startswith("6"):
        return web.json_response({"actions": [{"action": "reject", "code": 404}]})
    return web.json_response(
        {"actions": [{"action": "proxy", "targets": TARGETS, "record_route": True, "timeout_s": 20}]}
    )


app = web.Application()
app.router.add_post("/calls", calls)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "3000")), print=None)
