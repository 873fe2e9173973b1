"""SIP transports: sockets in, `Packet`s out, and `Send`s carried out. UDP and TCP; TLS and WebSocket are later rooms.

Knows addresses and bytes; refuses to know what a SIP message is.
"""
