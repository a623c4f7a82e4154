"""The link through which all values between parties pass, on every cluster and in serving.

* ``link``: `Link`, which encodes, counts and decodes values; `LinkRules` and `Tap`; `make_link`.
* ``kinds``: the kinds of values that each verb carries, and the decorator `carries` for the verbs of new parties.
* ``coded``: the format of a coded tensor.
* ``tensors``: serialization of values between processes, and their size in bytes.
* ``traffic``: sums and differences of traffic tables.

Others take `LinkRules` and `make_link` from ``link``, `carries` and `Kind` from ``kinds``, `difference` from
``traffic``, and `map_tensors` and `num_bytes` from ``tensors``.
"""
