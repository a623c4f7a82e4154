"""``raysplit export``: a trained model as weights, or as a program of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from raysplit.cli.options import NamedRun, whole_run
from raysplit.cli.results.runs import existing

if TYPE_CHECKING:
    from torch import Tensor


@click.command()
@click.argument("run", callback=whole_run)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", help="Which one, for methods that train many: an owner's name or a group of tasks.")
def export(run: NamedRun, file: Path, model: str | None) -> None:
    """Write the trained model of RUN (a folder, a name or a URI) to FILE.

    Its weights (.pt), or a whole program that needs no raysplit (.pt2).

    \b
    Examples:
      raysplit export digits digits.pt
      raysplit export digits digits.pt2
    """
    folder = existing(run)
    state = _chosen(folder, run.location, model)
    import torch

    if file.suffix == ".pt":
        torch.save(state, file)
    elif file.suffix == ".pt2":
        from raysplit.config.torch_program import program_of

        torch.export.save(program_of(folder, state), file)
    else:
        raise ValueError(f"{file} ends with {file.suffix!r}; end it with .pt for weights or .pt2 for a program")
    Console().print(f"{file}: {sum(value.numel() for value in state.values()):,} numbers of {run.location}")


def _chosen(folder: Path, location: str, model: str | None) -> dict[str, Tensor]:
    import torch

    path = folder / "model.pt"
    if not path.exists():
        raise ValueError(f"{location} has no model.pt yet; raysplit resume {location} ends the run")
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    is_one = all(hasattr(value, "numel") for value in content.values())
    if is_one and model is None:
        return content
    if is_one or model not in content:
        have = "one model; leave --model out" if is_one else f"the models {', '.join(content)}; name one with --model"
        raise ValueError(f"{location} has {have}")
    state: dict[str, Tensor] = content[model]
    return state
