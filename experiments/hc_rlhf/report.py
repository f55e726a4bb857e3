"""The figures and the page of hc_rlhf."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.hc_rlhf import PAPER
from experiments.hc_rlhf.claims import METHODS, hits, unsafe_returns
from experiments.hc_rlhf.config import Config
from experiments.hc_rlhf.reliability import LAWS, LIMIT, RULES
from experiments.hc_rlhf.shop_report import shop_figure, shop_table
from experiments.hc_rlhf.studies import KINDS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.intervals import share_interval
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
EXACT = "exact 95% interval"
SHOWN = 600  # first steps of the controlled runs


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    shop: Mapping[str, Arrays],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {**stages, **({"shop": shop} if shop else {})})
    figures = {
        "trained": show_panels(
            trained_panels(config, stages["exact"]),
            "Trained policies",
            f"{config.trials} policies of each method; those with a test were trained on one half "
            "of the prompts and tested once on the other. HC (C1, C2) trains against a pessimistic "
            "mean cost.",
            "without a test a quarter to a half of the policies are unsafe; HC (0,2) is returned "
            "most of the time and hardly ever unsafe, for less reward",
            columns=3,
        ),
        "boundary": show_panels(
            boundary_panels(config, stages["tests"]),
            "The test itself",
            f"{config.tests} simulated tests. Above, the mean cost is at the limit, and a return "
            f"is unsafe. Below, it is {config.margin:g} under the limit: a return is right.",
            "the t bound exceeds delta for few and skewed costs, the others do not and return less",
            columns=3,
        ),
        "rare": show_panels(
            rare_panels(config, stages["rare"]),
            "Costs of 0 and 1",
            f"Policies with a limit of {config.rare_tau:g} on the share of unsafe answers, trained "
            f"on {config.rare_train} prompts and tested on as many as the axis says.",
            "t exceeds delta with few answers; Hoeffding and Bernstein return next to nothing",
        ),
        "looks": show_panels(
            [*look_panels(config, stages["looks"]), control_panel(stages["control"])],
            "Repeated looks; control of the multiplier",
            "Left: chance that an unsafe policy has passed, by looks at fresh costs. Right: a "
            f"policy with two actions, reward = cost, and a limit of {LIMIT:g}.",
            "ten looks pass an unsafe policy half of the time; the integral alone oscillates",
        ),
    }
    if shop:
        figures["shop"] = shop_figure(config, shop)
    write_page(
        job.out,
        "HC-RLHF: released only with confidence",
        lead="Reward under a limit on the mean cost; a held-out test with a confidence bound "
        "decides whether the policy is returned or no solution is found.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
        tables=[shop_table(config, shop)] if shop else [],
    )


def shares(x: Sequence[float] | np.ndarray, units: Sequence[np.ndarray] | np.ndarray) -> Series:
    """The share of hits at every x, with its exact interval."""
    low, high = np.transpose([share_interval(each) for each in units])
    return Series(x, [float(each.mean()) for each in units], low, high, EXACT)


def trained_panels(config: Config, exact: Arrays) -> list[Panel]:
    """P(return), P(return and unsafe) and reward against prompts."""
    unsafe = unsafe_returns(config, exact)
    axis, x = "prompts", config.sizes
    kept = {m: shares(x, exact["returned"][:, j]) for j, m in enumerate(METHODS)}
    wrong = {m: shares(x, unsafe[:, j]) for j, m in enumerate(METHODS)}
    gains = {
        m: band(x, exact["reward"][:, j].T, centre="mean", spread="t", units="policies")
        for j, m in enumerate(METHODS)
    }
    return [
        Panel("returned", axis, "share", kept, log_x=True),
        Panel(
            "returned and unsafe", axis, "share", wrong, levels={"delta": config.delta}, log_x=True
        ),
        Panel("true mean reward", axis, "reward", gains, log_x=True),
    ]


def boundary_panels(config: Config, tests: Arrays) -> list[Panel]:
    """Unsafe and safe returns of the bounds, by law."""
    found = []
    for name, what, levels in (
        ("unsafe", "at the limit", {"delta": config.delta}),
        ("safe", f"{config.margin:g} below", {}),
    ):
        for i, law in enumerate(LAWS):
            series: dict[str, Series] = {
                kind: shares(
                    config.test_sizes, [hits(n, config.tests) for n in tests[name][i, :, k]]
                )
                for k, kind in enumerate(KINDS)
                if tests[name][i, 0, k] >= 0
            }
            found.append(
                Panel(f"{law}, {what}", "costs", "returned", series, levels=levels, log_x=True)
            )
    return found


def rare_panels(config: Config, rare: Arrays) -> list[Panel]:
    """P(return) of both methods, and P(return and unsafe) on the boundary."""
    found = []
    for method in ("Lagrangian + test", "HC (0,2)"):
        arrays = {name: rare[f"{method} {name}"] for name in ("returned", "cost")}
        unsafe = unsafe_returns(config, arrays, config.rare_tau)
        for title, units in (("returned", arrays["returned"]), ("returned and unsafe", unsafe)):
            series: dict[str, Series] = {
                kind: shares(config.rare_tests, units[:, k]) for k, kind in enumerate(KINDS)
            }
            levels = {"delta": config.delta} if units is unsafe else {}
            found.append(
                Panel(
                    f"{method}: {title}",
                    "costs of the test",
                    "share",
                    series,
                    levels=levels,
                    log_x=True,
                )
            )
    return found


def look_panels(config: Config, looks: Arrays) -> list[Panel]:
    """Chance that an unsafe policy has passed, by looks."""
    x = np.arange(1, config.looks + 1)
    names = ("each at delta", f"each at delta / {config.looks}")
    series = {name: shares(x, looks["passed"][i].T) for i, name in enumerate(names)}
    return [Panel("repeated looks", "looks", "passed", series, levels={"delta": config.delta})]


def control_panel(control: Arrays) -> Panel:
    """The cost as the multiplier is controlled."""
    costs = control["costs"][:, :SHOWN]
    series = {rule: Series(np.arange(costs.shape[1]), costs[i]) for i, rule in enumerate(RULES)}
    return Panel("control", "steps", "cost", series, levels={"limit": LIMIT})
