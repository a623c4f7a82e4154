"""Split inference: the backbone on an edge device, the task heads behind HTTP, and the costs (MTL-Split).

* ``edge``: `EdgeClient`, which runs the backbone and asks the server; ``transport``: errors and retries;
  ``http_transport``: HTTP, with bounds on a reply.
* ``server``: the heads on Ray Serve, `start` and `stop`; ``front``: the HTTP front before them; ``service``: the
  processing of messages, without HTTP.
* ``codec``: the wire format; ``compression``: the encodings of tensors in it.
* ``wire_link``: the link between edge and server; ``links``: the time that a transfer takes.
* ``cost``: the costs of the ways to deploy a model.

Others take `EdgeClient`, `HttpTransport`, `EdgeLink`, `Encoding`, `ServerOptions`, `start` and `stop` from these
modules. Only ``server`` imports Ray.
"""
