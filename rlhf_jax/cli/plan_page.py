"""Plans as tables on the screen and as plan.html."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rlhf_jax.plan import PodPlan, knobs, verdict
from rlhf_jax.plan.chips import GIB
from rlhf_jax.reports import html
from rlhf_jax.reports.claims import Table, write_text
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series

BOUND = "a bound: everything overlaps, no kernel is slower than the chip's peak"


def title(plan: PodPlan, model: str) -> str:
    """dpo of llama-8b on v5e:16x16, fsdp=256, 64 rows of 4096 tokens."""
    job = plan.job
    length = job.prompt_length + job.answer_length
    return (
        f"{job.method}, {model}, {plan.topology.name}, {ways(plan)}: {job.batch} x {length} tokens"
    )


def ways(plan: PodPlan) -> str:
    """fsdp=64,model=8."""
    return ",".join(f"{name}={size}" for name, size in plan.ways.items()) or "one chip"


def plan_table(plan: PodPlan, model: str) -> Table:
    """A column for each program: memory by part, work, traffic, bound."""
    programs = plan.programs
    names = list(dict.fromkeys(name for one in programs for name in one.parts))
    rows: list[tuple] = [
        (f"{name} (GiB)", *(_gib(one.parts.get(name)) for one in programs)) for name in names
    ]
    rows.append(("memory (GiB)", *(_gib(one.memory) for one in programs)))
    rows.append(
        (
            f"of {plan.topology.chip.hbm / GIB:.2f} GiB HBM",
            *(f"{one.memory / plan.topology.chip.hbm:.0%}" for one in programs),
        )
    )
    rows.append(("products (TFLOP)", *(f"{one.flops / 1e12:.3g}" for one in programs)))
    rows.append(
        (
            "beyond the method's need",
            *(f"{one.flops * plan.topology.count / one.useful - 1:.0%}" for one in programs),
        )
    )
    rows.append(("HBM traffic (GiB)", *(_gib(one.hbm_traffic) for one in programs)))
    links = list(dict.fromkeys(link for one in programs for link in one.network))
    for link in links:
        sent = [one.network.get(link) for one in programs]
        if max(each.sent for each in sent if each) >= 2**20:
            label = f"{link.kind}, {link.axes} (GiB sent)"
            rows.append((label, *("" if each is None else _gib(each.sent) for each in sent)))
    for name in ("compute", "HBM", "network"):
        rows.append((f"{name} (s)", *(f"{one.bound.times[name]:.3g}" for one in programs)))
    rows.append(("limit", *(one.bound.limit for one in programs)))
    rows.append(("MFU at most", *(f"{one.mfu:.0%}" for one in programs)))
    heads = ("per chip", *(one.name for one in programs))
    return Table(title(plan, model), heads, rows, note=BOUND)


def ranking_table(plans: Sequence[PodPlan]) -> Table:
    """Tried plans, best first."""
    rows = [
        (
            ways(plan),
            plan.job.config.remat,
            plan.job.parts,
            _gib(plan.largest.memory),
            "fits" if plan.fits else f"{_gib(-plan.spare)} GiB too many",
            f"{plan.seconds:.3g}",
            _slowest(plan),
        )
        for plan in plans
    ]
    heads = ("mesh", "remat", "micro-batches", "GiB a chip", "", "seconds at least", "limit")
    return Table("Tried", heads, rows, note=BOUND)


def _slowest(plan: PodPlan) -> str:
    return max(plan.programs, key=lambda one: one.bound.seconds).bound.limit


def write_plans(path: Path, model: str, plans: Sequence[PodPlan], swept: Sequence[PodPlan]) -> None:
    """The page: verdict, table, what was tried, and the sweep."""
    best = plans[0]
    blocks = [
        html.section(
            verdict(best).partition(":")[0].capitalize(),
            html.paragraph(verdict(best)),
            *(html.note(line) for line in knobs(best)),
            html.table(plan_table(best, model)),
        )
    ]
    if len(plans) > 1:
        blocks.append(html.section("Tried", html.table(ranking_table(plans))))
    if swept:
        image = html.figure(
            sweep_figure(swept), alt="memory a chip and bound of a step over chips", caption=BOUND
        )
        blocks.append(html.section("Other numbers of chips", image, html.table(sweep_table(swept))))
    write_text(path, html.page(title(best, model), *blocks))


def sweep_table(plans: Sequence[PodPlan]) -> Table:
    """A row for each number of chips."""
    rows = [
        (
            plan.topology.name,
            ways(plan),
            _gib(plan.largest.memory),
            "fits" if plan.fits else "does not fit",
            f"{plan.seconds:.3g}",
            f"{max(one.mfu for one in plan.programs):.0%}",
        )
        for plan in plans
    ]
    heads = ("topology", "mesh", "GiB a chip", "", "seconds at least", "MFU at most")
    return Table("Other numbers of chips", heads, rows)


def sweep_figure(plans: Sequence[PodPlan]) -> Figure:
    """Memory and the bound over the number of chips, both axes logarithmic."""
    chips = [plan.topology.count for plan in plans]
    memory = [plan.largest.memory / GIB for plan in plans]
    seconds = [plan.seconds for plan in plans]
    hbm = plans[0].topology.chip.hbm / GIB
    axes: dict[str, Any] = {"log_x": True, "log_y": True}
    memory_panel = Panel(
        "Memory",
        "chips",
        "GiB a chip",
        {"plan": Series(chips, memory)},
        levels={"HBM": hbm},
        **axes,
    )
    step = Panel("Step", "chips", "seconds at least", {"plan": Series(chips, seconds)}, **axes)
    return panels([memory_panel, step])


def _gib(size: float | int | None) -> str:
    return "" if size is None else f"{size / GIB:.3g}"
