"""Prediction of runs on described machines, and planning of cuts.

Files: `simulate` (`simulate` and `Simulation`), `reference` and `compiled` (its engines), `dry_run`,
`dry_parties` and `dry_setting` (models, parties and experiments whose tensors are sizes), `machines` (from a topology
to emulated machines), `timeline` and `timeline_picture` (events, use of devices, figure), `pacing` (paced runs,
predicted against measured), `closed_form` (the formulas of MP-SL) and `plan_cuts` (the planner's problem).

Programs call `raysplit.simulate` and `raysplit.plan`. Nothing is exported here, because these modules load torch.
"""
