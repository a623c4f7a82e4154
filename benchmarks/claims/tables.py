"""Fold finished runs into the records kept here, and write every table and picture about claims anew.

    raysplit reproduce minibatch-sfl --budget 2h --data data --out runs/claims     # as many runs as fit
    python benchmarks/claims/tables.py --records runs/claims                       # the tables, from all records so far

Written are the records (``NAME.jsonl``), the pictures and ``README.md`` of this folder, what ``raysplit reproduce
list`` shows (``raysplit/claims/standing.json``), and the table of the project's ``README.md``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from raysplit.claims.page import HEAD, lines
from raysplit.claims.protocol import Protocol, cells, load_protocol, protocol_names
from raysplit.claims.records import append_record, read_records
from raysplit.claims.running import Progress, progress_of
from raysplit.claims.standing import FILE
from raysplit.claims.verdict import Verdict, as_data, verdicts
from raysplit.cli.pictures.claims import draw_claims
from raysplit.runs.report_page import as_text, markdown_table

HERE = Path(__file__).parent
BEGIN, END = "<!-- claims: written by benchmarks/claims/tables.py -->", "<!-- end of claims -->"


def fold(name: str, source: Path) -> None:
    """Append the records of another folder that are not here yet."""
    here = {(record.key, record.digest) for record in read_records(HERE / f"{name}.jsonl")}
    for record in read_records(source / f"{name}.jsonl"):
        if (record.key, record.digest) not in here:
            append_record(HERE / f"{name}.jsonl", record)


def section(protocol: Protocol, found: list[Verdict], progress: Progress, has_picture: bool) -> str:
    """Everything about one paper."""
    total = len(progress.records) + len(progress.waiting)
    cpu_min = sum(record.cpu_s for record in progress.records) / 60
    parts = [f"## {protocol.title}", f"{protocol.paper}. {protocol.about.strip()}"]
    if total:
        command = f"`raysplit reproduce {protocol.name}`"
        parts.append(f"{len(progress.records)} of {total} runs, {cpu_min:.0f} CPU minutes; {command} goes on.")
    parts.append(markdown_table(HEAD, lines(found)))
    parts += [f"![differences and curves]({protocol.name}.png)"] if has_picture else []
    rules = "\n".join(f"* {as_text(v.claim.text)}: {as_text(v.claim.rule)}." for v in found)
    return "\n\n".join([*parts, "Rules, fixed before the runs:", rules])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, help="a folder with further records, as raysplit reproduce writes them")
    options = parser.parse_args()
    sections, standing, short = [], {}, []
    for name in protocol_names():
        if options.records is not None:
            fold(name, options.records)
        protocol = load_protocol(name)
        progress = progress_of(cells(protocol), HERE / f"{name}.jsonl")
        found = verdicts(protocol, progress.records)
        picture = draw_claims(protocol, found, progress.records, HERE / f"{name}.png")
        sections.append(section(protocol, found, progress, picture))
        standing[name] = as_data(found)
        short += [
            [as_text(protocol.title), *row]
            for v, row in zip(found, lines(found), strict=True)
            if v.decision != "not run"
        ]
    intro = (
        "# Claims of the papers\n\nEvery claim with the runs that decide it. A difference has its 95 % interval over "
        "seeds, paired; the rule that makes a verdict of it was fixed with the protocol (`raysplit/claims/protocols`). "
        "Shown, refuted and not decided count alike; a claim whose runs are not done says so. The tables are made from "
        "the records beside them by `python benchmarks/claims/tables.py`."
    )
    (HERE / "README.md").write_text("\n\n".join([intro, *sections]) + "\n", encoding="utf-8")
    FILE.write_text(json.dumps(standing, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    readme = HERE.parents[1] / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    table = markdown_table(["method", *HEAD], short)
    readme.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
