"""The parties of a run. They are plain classes; a cluster makes them reachable through handles.

* ``data_owner``: `DataOwner`, which holds samples and runs the owner's round, with `Batch`; ``batches``: how it goes
  through its samples (`LocalTraining`).
* ``compute_node``: `ComputeNode`, which trains parts of the model without data; ``server_shard``: one of several
  servers that act as one; ``routed_node``: a node whose replicas the aggregator averages; ``barrier``: how owners wait
  for one another; ``in_round``: calls of other rounds that are refused.
* ``aggregator``: `Aggregator`; ``aggregation``: the means, and the rules that refuse updates (`UpdateRules`).
* ``evaluator``: `Evaluator`, which holds test samples, and `Evaluation`.
* ``records``: what calls carry (`RoundContext`, `StepId`, `OwnerReport`), `NonFiniteLoss` and `StaleCall`.
* ``verbs``: the calls that each role answers, as types of handles.
* ``expecting``: what owners and nodes expect of values of others.
* ``parts``: the trainable parts of a cut model.

Nothing is exported here, because ``records`` must import without torch.
"""
