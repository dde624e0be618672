"""The page of a run's scores: curves over checkpoints and every measurement; one file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from vondata.storage import atomic_path
from vonmodel.baselines.recipes import BASELINES, RECIPES
from vonmodel.baselines.training import baseline_folder

from .curves import COLOURS, draw
from .history import QUANTITIES, Chart, Line, Timeline, charts_of, read_lines, timeline_of

PAGE = "metrics.html"
_STYLE = """
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
.chart { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1rem 1.1rem; }
.chart { margin: 0; }
.chart h3 small { color: var(--quiet); font-weight: 400; }
.chart svg { display: block; width: 100%; height: auto; margin-top: 0.6rem; overflow: visible; }
.chart ul { list-style: none; margin: 0.4rem 0 0; padding: 0; font-size: 0.8rem; color: var(--quiet); }
.chart li::before { content: ""; display: inline-block; width: 0.7rem; height: 0.7rem; border-radius: 50%;
  margin-right: 0.45rem; background: currentColor; }
.chart li span { color: var(--quiet); }
.grid, .stage { stroke: var(--line); fill: none; }
.stage { stroke-dasharray: 2 3; }
.reference { stroke: var(--quiet); stroke-dasharray: 6 4; fill: none; }
.tick { fill: var(--quiet); font-size: 11px; font-variant-numeric: tabular-nums; }
.curve { stroke: currentColor; stroke-width: 2; fill: none; stroke-linejoin: round; }
.spread { stroke: currentColor; stroke-width: 1.5; opacity: 0.5; fill: none; }
circle { fill: currentColor; stroke: var(--card); stroke-width: 1.5; }
.colour0 { color: var(--accent); } .colour1 { color: var(--good); }
.colour2 { color: light-dark(#3b62a8, #8fb4f5); } .colour3 { color: light-dark(#8a4fa3, #d3a2e6); }
.table { overflow-x: auto; }
.measured { border-collapse: collapse; font-size: 0.84rem; font-variant-numeric: tabular-nums; }
.measured th, .measured td { text-align: left; padding: 0.3rem 1rem 0.3rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
.measured th { color: var(--quiet); font-weight: 500; }
"""


def write_metrics_page(run: Path) -> Path:
    """Writes RUN/metrics.html from RUN/metrics.jsonl and those of the baselines beside the run.

    Returns:
        The page to open.
    """
    lines = read_lines(run)
    others = {RECIPES[name].title: read_lines(baseline_folder(run, name).path) for name in BASELINES}
    page = run / PAGE
    with atomic_path(page) as temporary:
        temporary.write_text(render_metrics(run.name, lines, others), "utf-8")
    return page


def render_metrics(name: str, lines: Sequence[Line], others: Mapping[str, Sequence[Line]]) -> str:
    """The page as HTML.

    Args:
        name: of the run.
        lines: its scores, oldest first.
        others: those of generators to compare with, by their titles.
    """
    timeline, charts = timeline_of(lines), charts_of(lines, others)
    checkpoints = len({line["checkpoint"]["sha256"] for line in lines})
    title = f"Scores of {name}"
    lead = f"{len(lines)} measurements of {checkpoints} {'checkpoint' if checkpoints == 1 else 'checkpoints'}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{(files("vonmodel.synthesis") / "page.css").read_text("utf-8")}{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="lead">{lead}. The horizontal axis counts steps, stage after stage; a dashed line across is a baseline.</p>
<h2>Over the checkpoints</h2>
<main class="charts">
{"".join(_chart(chart, timeline) for chart in charts) or '<p class="hint">Nothing yet: von evaluate</p>'}
</main>
<h2>Every measurement</h2>
{_table([*lines, *(line for each in others.values() for line in each)])}
</body>
</html>
"""


def _chart(chart: Chart, timeline: Timeline) -> str:
    labels = "".join(
        f'<li class="colour{index % COLOURS}"><span class="fact">{escape(curve.label)}</span></li>'
        for index, curve in enumerate(chart.curves)
    )
    title, better = escape(chart.quantity.title), escape(chart.quantity.better)
    return (
        f'<figure class="chart"><h3>{title} <small>{better}</small></h3>'
        f"\n{draw(chart, timeline)}\n<ul>{labels}</ul></figure>\n"
    )


def _table(lines: Sequence[Line]) -> str:
    """All measurements, newest first, with what they were measured on and with."""
    heads = ("Time", "Model", "Checkpoint", "Score", "Generated", "Real", "Seed", "Features", "Hashes", "Versions")
    rows = "".join(_row(line) for line in sorted(lines, key=lambda line: str(line.get("time", "")), reverse=True))
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="Every measurement"><table class="measured">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )


def _row(line: Line) -> str:
    numbers = [
        f"{quantity.title}: {value:.4g}"
        for quantity in QUANTITIES
        if quantity.metric == line["metric"] and (value := quantity.read(line)) is not None
    ]
    features = " ".join(str(line[name]) for name in ("features", "resize") if name in line)
    if "classifier" in line:
        features += f", accuracy {line['classifier']['accuracy']:.1%}"
    hashes = {"checkpoint": line["checkpoint"]["sha256"], "data": line.get("dataset_sha256")}
    hashes["features"] = line.get("features_sha256")
    cells = (
        str(line.get("time", "")).removesuffix("+00:00").replace("T", " "),
        str(line.get("model", "von")),
        line["checkpoint"]["name"],
        "\n".join(numbers),
        str(line["generated"]),
        f"{line['real']} {line['split']}" if "real" in line else f"{line.get('training', '')} train",
        str(line["seed"]),
        features,
        "\n".join(f"{name} {value[:12]}" for name, value in hashes.items() if value),
        ", ".join(f"{name} {version}" for name, version in line.get("versions", {}).items()),
    )
    return "<tr>" + "".join(f"<td>{escape(cell).replace(chr(10), '<br>')}</td>" for cell in cells) + "</tr>\n"
