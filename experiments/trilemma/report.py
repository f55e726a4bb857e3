"""Figures, table and page of the trilemma experiment."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from experiments.trilemma import CLAIM, PAPER
from experiments.trilemma.claims import least_labels, mass
from experiments.trilemma.collapse import POLICIES, average_odds
from experiments.trilemma.config import Config
from experiments.trilemma.studies import CURVES, MEASURES
from experiments.trilemma.triangle_claims import triangle
from experiments.trilemma.world import SYSTEMS
from rlhf_jax.exact.sample_costs import coverage_labels, flip_inflation
from rlhf_jax.feedback.populations import total_flip_rate
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
WORST = "error of the worst-off group"
KINDS = ("linear values", "values without structure")


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the arrays and figures, and writes report.html."""
    save_stages(job.out, stages)
    figures = {
        "costs": show_panels(
            cost_panels(config, stages["costs"]),
            "Labels to a target",
            f"Until the worst-off group has lost {config.target:g} of what is at stake for it. "
            "Tables: values without structure between contexts; with other values 2^d is not "
            "needed. Linear: values that are linear in d bits. Labels are flipped at "
            f"{config.flip_rate:g}. Right: contexts count alike, against Fano's bound on tables, "
            "and labels until no context is wrong for anybody.",
            "both tables double with every bit, the linear reward does not",
        ),
        "triangle": show_panels(
            triangle_panels(config, stages["triangle"]),
            "Four systems at one number of labels",
            f"{config.labels} Bradley-Terry labels, no attack. By stakes. The right panel assumes "
            "values without any structure between contexts.",
            "no curve is low in both panels at many bits",
            share_y=True,
        ),
        "robust": show_panels(
            [
                price_panel(config, stages["costs"]["prices"]),
                collapse_panel(config, stages["collapse"]),
            ],
            "The price of flips, and a majority under a KL weight",
            f"Left: a table for each group, d = {config.price_bits}, values without structure. "
            f"Right: one question, {config.shares[0]:.0%} of the people want one option, the "
            "others the other, by the same margin.",
            "labels rise with flips; the majority's option takes all as beta falls, but for MaxMin",
        ),
        "ways_out": show_panels(
            [mix_panel(config, stages["mixes"]), core_panel(config, stages["cores"])],
            "Ways out: structure, and a few core values",
            f"Left: d = {config.mix_bits}; a share of the values' variance is a table, the rest is "
            f"linear. Right: linear values, {config.people} people whose group nobody knows.",
            "the linear reward is as wrong as its features; EM over people comes near group ids",
        ),
    }
    write_page(
        job.out,
        CLAIM,
        lead="The paper's own definitions are not public in full: what is counted here is our "
        "formalisation of its three words.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def cost_panels(config: Config, costs: Arrays) -> list[Panel]:
    """By stakes, and by contexts with the bound and all contexts right."""
    bits = config.bits
    stakes = {name: reached(bits, costs[name][0]) for name in CURVES}
    alike = {name: reached(bits, costs[name][MEASURES.index("contexts")]) for name in CURVES[:2]}
    alike["one group, every context"] = reached(bits, costs[CURVES[0]][2])
    bounds = {
        f"Fano, {name.split(', ')[1]}": Series(bits, [least_labels(config, name, d) for d in bits])
        for name in CURVES[:2]
    }
    every = [coverage_labels(contexts=2**d, share=1.0) for d in bits]
    guides = {"every context met": Series(bits, every)}
    return [
        Panel("by stakes", "d", "labels", stakes, log_y=True),
        Panel("contexts alike", "d", "labels", alike, bounds=bounds, guides=guides, log_y=True),
    ]


def reached(x: Sequence[float], labels: np.ndarray) -> Series:
    """Labels [X, N] where all seeds have reached the target."""
    whole = np.isfinite(labels).all(-1)
    return band(np.asarray(x)[whole], labels[whole].T)


def triangle_panels(config: Config, arrays: Arrays) -> list[Panel]:
    """A panel for each kind of values."""
    return [
        Panel(
            kind,
            "d",
            WORST,
            {
                name: band(config.triangle_bits, triangle(config, arrays, name)[:, i, 0].T)
                for name in SYSTEMS
            },
            levels={"target": config.target},
        )
        for i, kind in enumerate(KINDS)
    ]


def price_panel(config: Config, labels: np.ndarray) -> Panel:
    """Labels against further flips, and what one vote would need."""
    rates = [float(total_flip_rate(config.flip_rate, x)) for x in config.attacks]
    start = np.median(labels[0])
    factor = [start * flip_inflation(config.flip_rate, total=x) for x in rates]
    return Panel(
        "labels to the target",
        "further flips",
        "labels",
        {"table, all groups": reached(config.attacks, labels)},
        guides={"((1 - 2f) / (1 - 2t))^2": Series(config.attacks, factor)},
        log_y=True,
    )


def collapse_panel(config: Config, collapse: Arrays) -> Panel:
    """Probability of the majority's option against beta."""
    betas = np.array(config.betas)
    curves = {name: band(betas, mass(collapse[name]).T) for name in POLICIES}
    odds = average_odds(config.shares[0], margin=config.margin, beta=jnp.asarray(betas))
    formula = Series(betas, mass(np.log(np.asarray(odds))))
    return Panel(
        "majority's option",
        "beta",
        "probability",
        curves,
        guides={"average reward": formula},
        levels={"share of the majority": config.shares[0]},
        log_x=True,
    )


def mix_panel(config: Config, mixes: Arrays) -> Panel:
    """Linear and table at few and many labels, and where the linear one must end."""
    found = {}
    for i, times in enumerate((1, config.many)):
        for name in ("group linear", "group table"):
            errors = mixes["errors"][i, :, :, SYSTEMS.index(name)]
            found[f"{name}, {times * config.labels} labels"] = band(config.mixes, errors.T)
    mixes_ = np.array(config.mixes)
    floor = Series(mixes_, 0.5 * (1.0 - np.sqrt(1.0 - mixes_)))
    return Panel(
        "structure that is partly true",
        "share outside the features",
        WORST,
        found,
        guides={"(1 - sqrt(1 - mix)) / 2": floor},
    )


def core_panel(config: Config, cores: Arrays) -> Panel:
    """EM over people against the number of values it may have."""
    errors = np.stack([cores[str(k)] for k in config.cores], -1)
    known = float(np.median(cores["group ids"]))
    return Panel(
        "core values",
        "values fitted, K",
        WORST,
        {"EM over people": band(config.cores, errors)},
        levels={"group ids known": known},
    )


def triangle_table(config: Config, arrays: Arrays) -> Table:
    """Mean errors without and with the attack."""
    rows = []
    for i, bits in enumerate(config.triangle_bits):
        for j, kind in enumerate(KINDS):
            cells = []
            for name in SYSTEMS:
                none, some = triangle(config, arrays, name)[i, j].mean(-1)
                cells.append(f"{none:.3f} / {some:.3f}")
            rows.append((f"d = {bits}, {kind}", *cells))
    return Table(
        f"{WORST.capitalize()}, {config.labels} labels, without / with an attack of "
        f"{config.attack:g}, means of {config.num_seeds} seeds",
        ("", *SYSTEMS),
        rows,
    )
