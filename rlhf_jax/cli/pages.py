"""Pages of a run: report.html when it is done, completions.html while it samples."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_jax.cli.arguments import flags
from rlhf_jax.recipes import read_completions
from rlhf_jax.reports import html
from rlhf_jax.reports.claims import Table, write_text
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series, pair_reliability
from rlhf_jax.training import read_metrics

SHOWN = 12  # completions on a page
REFRESH = 10  # seconds
FAVOURITE = (
    "The favourite of a pair is the answer with the higher score; numbers count held-out pairs."
)
CURVES = {  # metric -> title of its panel
    "loss": "Loss",
    "scores/mean": "Reward of samples",
    "kl/ref": "KL to the reference (nats per answer)",
    "answers/length": "Tokens per answer",
    "rewards/accuracy": "Chosen preferred (share of the batch)",
    "rewards/margin": "Margin (nats)",
    "heldout/loss": "Held-out loss (nats per token)",
    "sampler/gap": "Sampler and trainer: largest difference (nats)",
    "grad_norm": "Norm of the gradient",
    "penalty": "Load-balance loss of the experts",
}


def write_report(out: Path, summary: Mapping[str, Any], *, stage: str) -> None:
    """OUT/report.html: the numbers before and after, curves, completions, the command."""
    numbers = summary["numbers"]
    columns = list(dict.fromkeys(when for found in numbers.values() for when in found))
    rows = [
        (name, *(_cell(found.get(when)) for when in columns)) for name, found in numbers.items()
    ]
    blocks = [html.section("Measured", html.table(Table("", ("on held-out rows", *columns), rows)))]
    for name, found in summary["reliability"].items():
        title = f"Reliability of {name}"
        image = pair_reliability(found["bins"], found["pairs"], title=title)
        blocks.append(html.section(title, html.figure(image, alt=title, caption=FAVOURITE)))
    metrics = [row for row in read_metrics(out) if row["stage"] == stage]
    if curves := _curves(metrics):
        image = html.figure(panels(curves, columns=2), alt="training curves over steps")
        blocks.append(html.section("Training", image))
    if (out / "stages" / stage / "completions.jsonl").is_file():
        blocks.append(html.section("Completions", *_answers(out / "stages" / stage)))
    settings = [(name, str(value)) for name, value in summary["options"].items()]
    blocks.append(html.section("Options", html.table(Table("", ("option", "value"), settings))))
    command = shlex.join(["rlhf", summary["command"], *flags(dict(summary["options"]))])
    lead = f"{command} --out DIR"
    footer = f"reference {summary['reference_sha256'][:16]}, model {summary['model_sha256'][:16]}, "
    footer += f"{summary['seconds']:.0f} s"
    write_text(
        out / "report.html",
        html.page(f"rlhf {summary['command']}", *blocks, lead=lead, footer=footer),
    )


def write_completions(out: Path, *, stage: str, done: bool = False) -> None:
    """OUT/completions.html: the newest answers, best first; it loads itself again until done."""
    page = html.page("Completions", *_answers(out / "stages" / stage), lead=f"{out}, {stage}")
    again = f'<meta http-equiv="refresh" content="{REFRESH}">'
    text = page if done else html.Html(page.replace("<meta charset", f"{again}<meta charset", 1))
    write_text(out / "completions.html", text)


def _answers(folder: Path) -> list[html.Html]:
    """The answers of the newest step in a stage's table, grouped by prompt."""
    rows = read_completions(folder)
    newest = [row for row in rows if row["step"] == rows[-1]["step"]]
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in newest:
        groups.setdefault(str(row["prompt"]), []).append(row)
    blocks = [html.note(f"step {newest[-1]['step']}; all of them are in completions.jsonl")]
    for number, (prompt, answers) in enumerate(groups.items()):
        best = sorted(answers, key=lambda row: -(row["score"] if row["score"] is not None else 0))
        cards = [(f"answer {i + 1}", row["answer"], _score(row)) for i, row in enumerate(best[:3])]
        blocks.append(html.answer_table(f"Prompt {number + 1}", prompt, cards))
        if number + 1 == SHOWN:
            break
    return blocks


def _score(row: Mapping[str, Any]) -> str:
    return "not scored" if row["score"] is None else f"score {row['score']:.3g}"


def _curves(metrics: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """A panel for each of CURVES with two points at least."""
    found = []
    for name, title in CURVES.items():
        points = [(row["step"], row[name]) for row in metrics if row.get(name) is not None]
        if len(points) > 1:
            x, y = zip(*points, strict=True)
            found.append(Panel(title, "step", "", {name: Series(x, y)}))
    return found


def _cell(value: Any) -> Any:
    """Text of an interval; a number or nothing as it is."""
    if isinstance(value, list | tuple):
        mean, low, high = value
        return f"{mean:.4g} [{low:.4g}, {high:.4g}]"
    return "–" if value is None else f"{value:.4g}"  # noqa: RUF001
