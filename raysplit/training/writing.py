"""What a run writes before its first round, and the whole models that it writes after an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from raysplit.cluster.contract import gather
from raysplit.data.partition.laws import save_partition
from raysplit.experiment.experiment import Experiment
from raysplit.plain_yaml import write
from raysplit.runs.folder import RunFolder


def begin_folder(folder: RunFolder, experiment: Experiment, resources: Mapping[str, float]) -> None:
    """Write what is known before the first round; nothing has been written before, so that a mistake leaves nothing."""
    folder.begin()
    folder.write_text("config.yaml", write(experiment.plain))
    folder.write_environment(resources)
    if experiment.about_data:
        folder.write_text("data.json", json.dumps(experiment.about_data) + "\n")
    if experiment.parts:
        with folder.written("partition.parquet") as aside:
            save_partition(aside, list(experiment.parts))


async def merged(states: Sequence[Any]) -> dict[str, Tensor]:
    """Merge the awaited weights of the parts to those of the whole model, as copies that pin no shared memory."""
    return {key: value.clone() for state in await gather(*states) for key, value in state.items()}
