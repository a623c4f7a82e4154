"""``raysplit export``: write a trained model as weights or as a program."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raysplit.cli.options import NamedRun, NewFile, complete_runs, whole_run
from raysplit.cli.results.runs import existing
from raysplit.cli.streams import echo
from raysplit.cli.trust import allowed
from raysplit.disk import told_where, written

if TYPE_CHECKING:
    from torch import Tensor

    from raysplit.models.spec import ModelSpec

WHOLE = "global"
"""Label of the model of a run that trains one."""


@click.command()
@click.argument("run", callback=whole_run, shell_complete=complete_runs)
@click.argument("file", type=NewFile())
@click.option("--model", metavar="NAME", help="Which model, where there are many: an owner or a group of tasks.")
@click.option("--trust", is_flag=True, help="Import and run the code that RUN names, which .pt2 and adapters need.")
@click.option("--adapter", is_flag=True, help="Write the low-rank adapters alone, to a folder that peft loads.")
@click.option("--merge", is_flag=True, help="Write the weights with the low-rank adapters added to the base.")
def export(run: NamedRun, file: Path, model: str | None, trust: bool, adapter: bool, merge: bool) -> None:
    """Write the trained model of RUN to FILE.

    RUN is a folder, a name below runs/, or a URI. FILE ends in .pt or .safetensors for the weights (a state_dict), or
    in .pt2 for a program of torch.export, which runs without raysplit.

    \b
    Examples:
      raysplit export digits digits.pt
      raysplit export digits digits.pt2
      raysplit export tuned adapter --adapter
    """
    folder = existing(run).folder
    state = _chosen(folder, run.location, model)
    import torch

    if adapter and merge:
        raise ValueError("--adapter writes the adapters alone, and --merge adds them to the base; give one of them")
    if adapter:
        from raysplit.models.adapters.export import write_adapter

        allowed(folder, "the export of adapters", trust=trust)
        count = write_adapter(_spec(folder), state, file)
        echo(f"{file}: {count:,} numbers of {run.location}; peft.PeftModel.from_pretrained(base, folder) loads them")
        return
    if merge:
        from raysplit.models.adapters.export import merged

        allowed(folder, "the export of merged weights", trust=trust)
        state = merged(_spec(folder), state)
    if file.suffix == ".pt":
        with written(file) as aside:
            torch.save(state, aside)
    elif file.suffix == ".safetensors":
        from raysplit.models.adapters.weights import write_weights

        with written(file) as aside:
            write_weights(state, aside)
    elif file.suffix == ".pt2" and not merge:
        from raysplit.cli.results.torch_program import program_of

        allowed(folder, "the export of a program", trust=trust)
        program = program_of(folder, state, label=model)
        with told_where(file):
            torch.export.save(program, file)
    else:
        raise ValueError(f"{file} ends in {file.suffix!r}; {_endings(merge)}")
    echo(f"{file}: {sum(value.numel() for value in state.values()):,} numbers of {run.location}")


def _endings(merge: bool) -> str:
    return f"it must end in .pt or .safetensors for weights{'' if merge else ', or .pt2 for a program'}"


def _spec(folder: Path) -> ModelSpec:
    from raysplit.config.build import model_and_data
    from raysplit.config.run import load_recorded

    return model_and_data(load_recorded(folder))[0]


def _chosen(folder: Path, location: str, model: str | None) -> dict[str, Tensor]:
    from raysplit.runs.records.read import read_models

    models = read_models(folder)
    if not models:
        raise ValueError(
            f"{location} is unfinished and has no model.pt; finish it: raysplit resume {shlex.quote(location)}"
        )
    is_one = list(models) == [WHOLE]
    if is_one and model is None:
        return models[WHOLE]
    if is_one or model not in models:
        have = "one model; leave --model out" if is_one else f"the models {', '.join(models)}; name one with --model"
        raise ValueError(f"{location} has {have}")
    return models[model]
