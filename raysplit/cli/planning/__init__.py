"""Commands that predict and plan: `plan`, `simulate`, `profile`, `affinity` and `split_cost`."""
