"""Figures of the commands, drawn with matplotlib: `affinity`, `compare`, `plan` and `sweep`."""
