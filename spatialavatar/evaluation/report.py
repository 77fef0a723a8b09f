"""The report of a run: tables in Markdown and LaTeX, and a page with the videos side by side."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from spatialavatar.evaluation.metrics import METRICS
from spatialavatar.evaluation.transfer import FIGURES
from spatialavatar.files import atomic_output

_ARROWS: Final = {"higher": ("↑", r"$\uparrow$"), "lower": ("↓", r"$\downarrow$"), "": ("", "")}
_REGIONS: Final = {
    "head": "above a fifth of the face's height below the chin, clothes left out; white elsewhere",
    "full": "the whole crop",
}
_TRANSFER_CAPTION: Final = (
    "Expression transfer by the landmark network's scores of driver and render, over the clips in which the driver "
    "moves: mean r, median amplitude, mean MAE of the scores and of their change from the median, mean lag in frames."
)
_TRANSFER_HEADER: Final = ("group", "clips", "r ↑", "amplitude (1)", "MAE ↓", "MAE of change ↓", "lag, frames")


def write_tables(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``table.md`` and ``table.tex`` from the content of ``results.json``.

    Raises:
        OutputError: the folder cannot be written.
    """
    _write(folder / "table.md", markdown(content))
    _write(folder / "table.tex", latex(content))


def markdown(content: Mapping[str, Any]) -> str:
    """Means over the set, then every clip, with the conditions of the run."""
    rows = [_row(result["protocol"], _figures(result), result) for result in content["results"]]
    clips = [
        _row(f"{clip['clip']}, {method}", one["means"], {"frames": len(one["frames"])})
        for clip in _measured(content)
        for method, one in clip["methods"].items()
    ]
    names = _names(content)
    head = [f"{_heading(name, 0)}" for name in names]
    parts = [
        f"`{content['command']}`",
        statement(content),
        _markdown_table(["", *head, "clips", "frames"], [[r[0], *r[1](names), r[2], r[3]] for r in rows]),
        _markdown_table(["clip", *head, "frames"], [[r[0], *r[1](names), r[3]] for r in clips]),
    ]
    transferred = _transfer_rows(content)
    if transferred:
        parts.insert(3, f"{_TRANSFER_CAPTION}\n\n" + _markdown_table(_TRANSFER_HEADER, transferred))
    if content["failed"]:
        parts.append("Not measured:\n\n" + "\n".join(f"* {c}: {reason}" for c, reason in content["failed"].items()))
    return "\n\n".join(parts) + "\n"


def means_table(means: Mapping[str, Mapping[str, float]]) -> str:
    """Figures by method as a markdown table."""
    names = [name for name in METRICS if any(name in row for row in means.values())]
    rows = [[title, *(_number(name, row.get(name)) for name in names)] for title, row in means.items()]
    return _markdown_table(["", *(_heading(name, 0) for name in names)], rows)


def latex(content: Mapping[str, Any]) -> str:
    """The means over the set as a booktabs tabular."""
    names = _names(content)
    lines = [
        f"% {content['command']}",
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        " & ".join(["method", *(_heading(name, 1) for name in names)]) + r" \\",
        r"\midrule",
    ]
    for result in content["results"]:
        values = [_number(name, _figures(result).get(name)) for name in names]
        lines.append(" & ".join([_tex(result["protocol"]), *values]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def statement(content: Mapping[str, Any]) -> str:
    """What was compared, in one paragraph."""
    run = content["run"]
    config, machine = run["config"], run["machine"]
    every = "every target frame" if config["stride"] == 1 else f"every target frame of {config['stride']}"
    commit = f", commit {run['commit'][:12]}{'+' if run['commit'].endswith('+') else ''}" if run["commit"] else ""
    return (
        f"Protocol {config['protocol']} on {run['dataset']}: {every}; the tracker's crop at 512 x 512 pixels, over "
        f"white by the matte; region {config['region']}: {_REGIONS[config['region']]}. No alignment beyond the tracked "
        f"pose. Means over frames, then over clips. Version {run['version']}{commit}, seed {config['seed']}, "
        f"{machine['processor']}, {machine['cores']} cores; {content['seconds'] / 60:.0f} minutes of clips' time, "
        f"{content['memory_gb']:.1f} GB at most in a process. Figures' digest {content['digest']}."
    )


def write_page(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``report.html``: the tables, then every clip with its video and its worst frames.

    Raises:
        OutputError: the folder cannot be written.
    """
    run, names = content["run"], _names(content)
    sections = [_section(clip, names) for clip in _measured(content)]
    failed = "".join(
        f"<li><b>{html.escape(clip)}</b>: {html.escape(reason)}</li>" for clip, reason in content["failed"].items()
    )
    noted = "".join(
        f"<li><a href='#{html.escape(clip['clip'])}'>{html.escape(clip['clip'])}</a>: {html.escape(note)}</li>"
        for clip in _measured(content)
        for note in clip["notes"]
    )
    missing = f"<p>{content['missing']} clips are still to be measured.</p>" if content["missing"] else ""
    title = f"{run['config']['protocol']} on {run['dataset']}"
    rows = [_row(result["protocol"], _figures(result), result) for result in content["results"]]
    table = _html_table(
        ["", *(_heading(n, 0) for n in names), "clips", "frames"], [[r[0], *r[1](names), r[2], r[3]] for r in rows]
    )
    transferred = _transfer_rows(content)
    if transferred:
        table += f"<p>{_TRANSFER_CAPTION}</p>" + _html_table(_TRANSFER_HEADER, transferred)
    page = _PAGE.format(
        title=html.escape(title),
        command=html.escape(content["command"]),
        statement=html.escape(statement(content)),
        table=table,
        missing=missing,
        failed=f"<h2>Not measured</h2><ul>{failed}</ul>" if failed else "",
        noted=f"<h2>Notes</h2><ul>{noted}</ul>" if noted else "",
        sections="".join(sections),
    )
    _write(folder / "report.html", page)


def _section(clip: Mapping[str, Any], names: Sequence[str]) -> str:
    """One clip of the page."""
    methods = clip["methods"]
    rows = [[method, *_row("", one["means"], {})[1](names), len(one["frames"])] for method, one in methods.items()]
    columns = ", ".join(["target", *methods])
    parts = [f"<h2 id='{html.escape(clip['clip'])}'>{html.escape(clip['clip'])}</h2>"]
    parts.append(_html_table(["", *(_heading(name, 0) for name in names), "frames"], rows))
    for file in clip["files"]:
        source = html.escape(f"clips/{file}", quote=True)
        if file.endswith(".mp4"):
            parts.append(
                f"<figure><video src='{source}' controls loop muted playsinline preload='metadata'></video>"
                f"<figcaption>{html.escape(columns)}</figcaption></figure>"
            )
        else:
            frames = ", ".join(str(frame) for frame in clip["worst"])
            caption = f"Worst first: {frames}. {columns}, four times the last one's error"
            parts.append(
                f"<figure><img src='{source}' alt='' loading='lazy'><figcaption>{html.escape(caption)}</figcaption>"
                "</figure>"
            )
    return "".join(parts)


def _measured(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The measured clips, worst first: by LPIPS, or by CSIM where pictures are not compared."""

    def badness(clip: dict[str, Any]) -> float:
        means = list(clip["methods"].values())[-1]["means"]
        return means.get("lpips", -means.get("csim", 0.0))

    return sorted((clip for clip in content["clips"] if clip["status"] == "measured"), key=badness, reverse=True)


def _names(content: Mapping[str, Any]) -> list[str]:
    """The metrics with values, in their order."""
    there = {name for result in content["results"] for name in _figures(result)}
    return [name for name in METRICS if name in there]


def _transfer_rows(content: Mapping[str, Any]) -> list[list[object]]:
    """Rows of the table of expression transfer, one for each method and group."""
    return [
        [f"{result['protocol']}: {group.replace('_', ' ')}", row["clips"]]
        + [f"{row[name]:.{digits}f}" if name in row else "" for name, digits in FIGURES.items()]
        for result in content["results"]
        for group, row in result.get("transfer", {}).items()
    ]


def _figures(result: Mapping[str, Any]) -> dict[str, float]:
    """All of one result's means."""
    return {**result["metrics"], **result["times"]}


def _row(title: str, means: Mapping[str, float], counts: Mapping[str, Any]) -> tuple[str, Any, Any, Any]:
    def values(names: Sequence[str]) -> list[str]:
        return [_number(name, means.get(name)) for name in names]

    return title, values, counts.get("clips", ""), counts.get("frames", "")


def _number(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.{METRICS[name].digits}f}"


def _heading(name: str, kind: int) -> str:
    """A column's title: unit and arrow; ``kind`` 0 is for markdown and HTML, 1 for LaTeX."""
    metric = METRICS[name]
    title = metric.title + (f", {metric.unit}" if metric.unit else "")
    return f"{_tex(title) if kind else title} {_ARROWS[metric.better][kind]}".strip()


def _tex(text: str) -> str:
    for sign in "&%$#_":
        text = text.replace(sign, rf"\{sign}")
    return text


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)])


def _html_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in header)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _write(path: Path, text: str) -> None:
    with atomic_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }}
h2 {{ font-size: 1.15rem; margin-top: 2.2rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }}
th, td {{ padding: .3rem .6rem; text-align: right; }}
tr {{ border-bottom: 1px solid color-mix(in srgb, currentColor 18%, transparent); }}
th:first-child, td:first-child {{ text-align: left; white-space: nowrap; }}
figure {{ margin: 1rem 0; }}
video, img {{ max-width: 100%; background: #fff; }}
figcaption {{ opacity: .7; font-size: 13px; }}
code {{ word-break: break-word; }}
</style>
<h1>{title}</h1>
<p><code>{command}</code></p>
<p>{statement}</p>
{table}
{missing}
{failed}
{noted}
{sections}
</html>
"""
