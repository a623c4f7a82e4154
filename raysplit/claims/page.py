"""The table of a paper's claims as Markdown, and as one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from raysplit.claims.protocol import Protocol
from raysplit.claims.verdict import Verdict
from raysplit.runs.report_page import as_text, markdown_table

HEAD = ["claim", "paper", "ours", "verdict"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ protocol.title }}: claims</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #333; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #d9dce1; }
.rule { color: #666; font-size: .85rem; }
.shown { color: #00664b; font-weight: 600; } .refuted { color: #a84300; font-weight: 600; }
img { max-width: 100%; }
</style>
</head>
<body>
<h1>{{ protocol.title }}</h1>
<p>{{ protocol.paper }}. {{ protocol.about }}</p>
<p>{{ done }} of {{ total }} runs.</p>
<table>
<thead><tr><th>claim</th><th>paper</th><th>ours</th><th>verdict</th></tr></thead>
<tbody>
{% for v in verdicts -%}
<tr><td>{{ v.claim.text }}<div class="rule">{{ v.claim.rule }}</div></td>
<td>{{ v.claim.paper }}<br>{{ v.claim.place }}</td>
<td>{{ v.ours }}</td><td class="{{ v.decision }}">{{ v.decision }}</td></tr>
{% endfor -%}
</tbody>
</table>
{% if picture -%}
<img alt="differences with intervals, and curves over rounds" src="data:image/png;base64,{{ picture }}">
{%- endif %}
</body>
</html>
"""


def lines(found: Sequence[Verdict]) -> list[list[str]]:
    """Return the cells of the table."""
    return [[as_text(t) for t in (v.claim.text, v.claim.paper, v.ours, v.decision)] for v in found]


def markdown(protocol: Protocol, found: Sequence[Verdict], done: int, total: int) -> str:
    """Return the table with the setting that it is of."""
    rules = [f"* {as_text(v.claim.text)}: {as_text(v.claim.rule)}." for v in found]
    parts = [
        f"# {protocol.title}",
        f"{protocol.paper}. {protocol.about.strip()}",
        markdown_table(HEAD, lines(found)),
        f"{done} of {total} runs. Rules, fixed before the runs:" if total else "Rules:",
        "\n".join(rules),
    ]
    return "\n\n".join(parts) + "\n"


def page(protocol: Protocol, found: Sequence[Verdict], done: int, total: int, picture: Path | None) -> str:
    """Return the page, with the picture inside."""
    inside = base64.b64encode(picture.read_bytes()).decode() if picture is not None else ""
    template = Environment(autoescape=True).from_string(_PAGE)
    return template.render(protocol=protocol, verdicts=found, done=done, total=total, picture=inside)
