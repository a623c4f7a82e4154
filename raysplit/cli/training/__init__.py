"""Commands that train: `demo`, `train`, `resume`, `sweep`, and `submit` for a job on a Ray cluster."""
