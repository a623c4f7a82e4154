"""The HTTP front of the heads: routes, who may ask, and bounds on time, connections and memory.

* ``limits``: the bounds; ``access``: the token and TLS.
* ``routes``: the three routes, which check messages and ask the heads.
* ``bodies``: the bodies that are being read; ``connection``: one connection and its time limits.
* ``listener``: the connections of all peers, and the thread that serves them.

HTTP is uvicorn's, routes are FastAPI's. Nothing here imports Ray.
"""
