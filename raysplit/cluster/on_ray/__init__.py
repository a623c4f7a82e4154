"""The clusters on Ray, and everything else that needs a connection to Ray except serving.

* ``cluster``: `RayCluster`; ``elastic``: `ElasticRayCluster`.
* ``connect``: `connect`, `RayOptions`, `RayUnreachable`, and plain Ray tasks.
* ``place``, ``places``: the actors in which parties live, and their placement groups.
* ``home``: the state of a place's process, and what is set up in it.
* ``answers``: the answers of places, and calls that travel together.
* ``no_room``: the message for places that found no room.
* ``jobs``, ``job_files``: Ray's job API, and the files of a job.

Others take the names of ``cluster``, ``elastic``, ``connect``, ``jobs`` and ``job_files``. ``connect`` and
``jobs`` import Ray when they are used; ``cluster``, ``elastic``, ``place`` and ``places`` import it at once, so import
them after `connect` has prepared the environment. Nothing is exported here for that reason.
"""
