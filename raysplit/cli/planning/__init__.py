"""Commands that predict and plan: `plan` (with `quantities`), `simulate`, `profile`, `affinity` and `split_cost`."""
