"""Puts whoever calls a number that begins with 8 through to a phone, and lets either of the two transfer the other."""

import os

from aiohttp import web

PHONE = os.environ.get("PHONE", "sip:phone@127.0.0.1:5070")
OTHERS = os.environ.get("OTHERS", "sip:phone@127.0.0.1:5071").split(",")  # whom a phone may transfer to


async def calls(request: web.Request) -> web.Response:
    event = await request.json()  # examples/answer.py shows how to verify that it is the bridge's
    data = event["data"]
    if "call" not in data:
        return web.Response()  # a phone has registered
    print(event["type"], data["call"]["id"], data.get("to") or "", data.get("code") or "", flush=True)
    match event["type"]:
        case "transfer.requested" if data["to"] in OTHERS or data["replaces_call_id"] is not None:
            actions = [{"action": "accept", "timeout_s": 20}]
        case "transfer.requested":
            actions = [{"action": "reject"}]
        case "call.incoming" if data["replaces_call_id"] is not None:
            actions = [{"action": "answer"}]
        case "call.incoming" if data["call"]["to"]["user"] == "801":
            actions = [{"action": "dial", "to": OTHERS[0]}]
        case "call.incoming":
            actions = [{"action": "dial", "to": PHONE}]
        case _:
            return web.Response()
    return web.json_response({"actions": actions})


app = web.Application()
app.router.add_post("/calls", calls)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "3000")), print=None)
