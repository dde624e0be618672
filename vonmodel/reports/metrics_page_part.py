"""The page of a run's scores: curves over checkpoints and every measurement; one file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from vonmodel.baselines.recipes import BASELINES, RECIPES
from vonmodel.baselines.training import baseline_folder
from vonmodel.reports.curves import COLOURS, draw
from vonmodel.reports.history import QUANTITIES, Chart, Line, Timeline, charts_of, read_lines, timeline_of
from vonmodel.reports.html import Page

PAGE = "metrics.html"


def write_metrics_page(run: Path) -> Path:
    """Writes RUN/metrics.html from RUN/metrics.jsonl and those of the baselines beside the run.

    Returns:
        The page to open.
    """
    lines = read_lines(run)
    others = {RECIPES[name].title: read_lines(baseline_folder(run, name).path) for name in BASELINES}
    return metrics_page(run.name, lines, others).write(run / PAGE)


def metrics_page(name: str, lines: Sequence[Line], others: Mapping[str, Sequence[Line]]) -> Page:
    """The page of a run.

    Args:
        name: of the run.
        lines: its scores, oldest first.
        others: those of generators to compare with, by their titles.
    """
    timeline, charts = timeline_of(lines), charts_of(lines, others)
    checkpoints = len({line["checkpoint"]["sha256"] for line in lines})
    lead = f"{len(lines)} measurements of {checkpoints} {'checkpoint' if checkpoints == 1 else 'checkpoints'}"
    content = f"""<h2>Over the checkpoints</h2>
<main class="charts">
{"".join(_chart(chart, timeline) for chart in charts) or '<p class="hint">Nothing yet: von evaluate</p>'}
</main>
<h2>Every measurement</h2>
{_table([*lines, *(line for each in others.values() for line in each)])}"""
    lead += ". The horizontal axis counts steps, stage after stage; a dashed line across is a baseline."
    return Page(f"Scores of {name}", lead, content, styles=("scores.css",))


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
