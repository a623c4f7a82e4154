"""Recovery of runs: checkpoints, losses and elastic membership.

Files: `checkpoint` (files that are complete or refused), `recovery` (`Safety`: keep checkpoints, go back to the last
one), `failures` (what an error is), `expected` (what the coordinator expects), `watch` (places and rounds that do not
answer), `members` (who takes part in an elastic run) and `migration` (parts that move between compute nodes).
"""
