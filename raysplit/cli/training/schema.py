"""``raysplit schema``: write the JSON schema of a configuration, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from raysplit.cli.options import NewFile
from raysplit.cli.streams import echo
from raysplit.disk import written


@click.command(name="schema")
@click.option("--output", type=NewFile(), help="File to write; by default the schema is printed.")
def schema_command(output: Path | None) -> None:
    """Write the JSON schema of a configuration, for editors.

    It has every setting with its meaning, its type, its bounds and its default, and the options of the built-in
    algorithms. An editor with a YAML language server then completes and checks a file that begins with

    \b
      # yaml-language-server: $schema=raysplit.schema.json

    \b
    Example:
      raysplit schema --output raysplit.schema.json
    """
    from raysplit.config.editors.schema import schema

    text = json.dumps(schema(), indent=1)
    if output is None:
        echo(text)
        return
    with written(output) as aside:
        aside.write_text(text + "\n", encoding="utf-8")
    echo(f"schema: {output}; begin a configuration with # yaml-language-server: $schema={output.name}")
