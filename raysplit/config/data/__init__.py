"""Parts of the section ``data``.

* ``named``: `Named`, a section with a name and the options of what it names.
* ``own_source``: the data of one owner.
* ``tasks``: the tasks of several targets.
"""
