"""Sums over owners, with the same bits wherever parts of them are formed.

* ``tree``: the tree along which owners are added.
* ``leaving``: updates that leave a process together, in sums of whole nodes of the tree.
"""
