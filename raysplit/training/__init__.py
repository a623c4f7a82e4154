"""The training loop and what belongs to a run in progress.

Files: `session` (`train_new` and `train_on`: connect, run, record), `loop` (rounds, evaluation, early stopping),
`cluster` (from options to a cluster), `preflight` (estimate of memory), `metrics`, `majority` and `divergence` (numbers
of a round), `own_loop` (coroutines inside notebooks), and the folder `recovery` (checkpoints and losses).

Only the API and sweeps use this package. Nothing is exported here, because the modules load torch.
"""
