"""Sweeps over the values of settings.

Files: `sweep` (the grid and its cells), `run` (`run_sweep` and `SweepResult`) and `report` (the table). Programs call
`raysplit.sweep`, and the command is ``raysplit sweep``. Nothing is exported here, because these modules load torch.
"""
