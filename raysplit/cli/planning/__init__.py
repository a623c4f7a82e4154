"""Commands that predict and plan: `cuts`, `plan` (with `quantities` and `codec_plan`), `simulate`, `profile`, `codecs`,
`affinity` and `split_cost`."""
