"""Clusters: where parties live, how calls travel between them, and what happens on a link.

* ``contract``: the interface `Cluster`, `PartySpec`, handles, promises and `gather`.
* ``clock``, ``device``, ``device_queue``: what a party knows of the time and of the device that it computes on.
* ``layout``: the assignment of parties to places; ``load``: the measurement of their load.
* ``ray_start``: what Ray needs to start here, and what a failure to start or to join means.
* ``faults``: a cluster with injected faults, for tests.
* ``links``: the link that encodes, counts and decodes values; ``codecs``: the encodings; ``memories``: what they keep;
  ``processors``: the kinds of processors, on which the bits of some depend.
* ``arriving``: what parties expect of values that arrive, and the check of each; ``sums``: sums over owners.
* ``local``, ``on_ray``, ``simulated``: the implementations of `Cluster`.
* ``emulation``: described machines and networks, which pace or simulate a run.
* ``lab``: several Ray machines on this machine.

Parties and algorithms import ``contract``, ``arriving``, ``sums``, ``clock``, ``device`` and ``device_queue`` only.
Nothing is exported here, so that the light modules (``lab``, ``on_ray.connect``) can be imported alone.
"""
