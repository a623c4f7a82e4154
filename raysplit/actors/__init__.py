"""The parties of a run. They are plain classes; a cluster makes them reachable through handles.

* ``data_owner``: `DataOwner`, which holds samples and runs the owner's round, with `LocalTraining` and `Batch`.
* ``compute_node``: `ComputeNode`, which trains parts of the model without data; ``server_shard``: one of several
  servers that act as one; ``barrier``: the meeting of owners at a joint step.
* ``aggregator``: `Aggregator`; ``aggregation``: the means, and the rules that refuse updates (`UpdateRules`).
* ``evaluator``: `Evaluator`, which holds test samples, and `Evaluation`.
* ``records``: what calls carry (`RoundContext`, `StepId`, `OwnerReport`), `NonFiniteLoss` and `StaleCall`.
* ``verbs``: the calls that each role answers, as types of handles.
* ``parts``: the trainable parts of a cut model.

Nothing is exported here, because ``records`` must import without torch.
"""
