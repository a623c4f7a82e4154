"""The grouping of tasks by affinity.

* ``scores``: affinities, and the best groups (`Affinity`, `exact_x`, `at_most_x`, `overlap`, `hoa`).
* ``known``: affinities of which some are not known, and their means (`mean_known`).
* ``search``: the searches, on bit masks.
* ``when``: the round of the split (`FixedRound`, `StableRanking`, `decide`).
* ``files``: affinities in CSV and Parquet files.
"""
