"""The link through which all values between parties pass, on every cluster and in serving.

* ``link``: `Link`, which counts values and sends them unchanged.
* ``coding_link``: the link that encodes and decodes values.
* ``rules``: `LinkRules` and `Tap`.
* ``tap``: `Recorder`, which keeps what crosses.
* ``coding``: which tensors are coded, and what is checked before they are decoded.
* ``at_cut``: a codec in a model, at the place of a cut.
* ``references``: weights to which differences are coded.
* ``kinds``: the kinds of values that each verb carries, and the decorator `carries` for the verbs of new parties.
* ``coded``: the format of a coded tensor.
* ``leaves``: the tensors of a value, by name.
* ``tensors``: serialization of values between processes, and their size in bytes.
* ``traffic``: sums and differences of traffic tables.

Others take `LinkRules` from ``rules``, `make_link` from `raysplit.cluster.guarded_link`, `carries` and `Kind` from
``kinds``, `difference` from ``traffic``, and `map_tensors` and `num_bytes` from ``tensors``.
"""
