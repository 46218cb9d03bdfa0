"""The HTTP listener: rows in, queries, subscriptions, health and metrics, on the event loop of the wire server.

It needs the extra ``http`` (Starlette, uvicorn, prometheus-client); nothing outside of this folder imports it before
``--http-port`` asks for it. It cannot ask for passwords yet, so it listens on loopback
only, and only where the rules trust that.
"""
