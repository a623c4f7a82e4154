"""The description of a run that training, prediction and recording read.

Files: `experiment` (`Experiment`), `evaluators` (the parties that evaluate on the test set), `rules`
(`EvaluationRules`, `ReliabilityRules`, `ElasticRules`), `cluster` (`ClusterOptions`), `links` (`LinkOptions`, with
`link_checks`), `topology` (`Topology`, `DeviceOptions`), `codec_costs` (measured codecs), `fingerprint` (what the
numbers of a run depend on), `titles` (of the algorithms) and `errors` (`ConfigError`).

Programs take `raysplit.Experiment` and `raysplit.ConfigError`. Nothing is exported here, because `experiment` loads
torch.
"""
