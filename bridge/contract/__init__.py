"""The public JSON of REST and webhooks: its models, and the way to and from the words of `bridge.calls`.

`models`, `events`, `actions`, `problems` and `operations` say what integrators see; `openapi` prints it; `render` and
`replies` are the two hot paths, out and in. Opens no socket, reads no clock, knows no HTTP server.
"""
