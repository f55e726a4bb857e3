"""The run, the claims and the page of the language panel; the unit is a seed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.rl_perspective import PAPER
from experiments.rl_perspective.config import Config
from experiments.rl_perspective.language import PPO, SFT, SLIPPED, START, language_costs
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Outcome, Table, behind_gates
from rlhf_jax.reports.intervals import mean_claim, mean_text
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.reports.rates import fit_rate
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
SHOWN = (START, SFT, SLIPPED, PPO, "expert")


def run_language(config: Config, job: Run) -> Outcome:
    """Trains and judges every method at every length."""
    found = language_costs(config, job)
    claims, table = language_claims(config, found), language_table(config, found)
    write_language(job, config, found, claims, table)
    return Outcome(claims, numbers={name: x.tolist() for name, x in found.items()}, table=table)


def slopes_of(config: Config, costs: np.ndarray) -> np.ndarray:
    """[seeds] slopes of log cost in log length, of costs [seeds, lengths]."""
    return fit_rate(config.language.lengths, costs, law="power").slopes


def language_claims(config: Config, found: Arrays) -> list[Claim]:
    """A gate, slopes, and costs at the longest answers, from `language_costs`."""
    sizes = config.language
    last = {name: costs[:, -1] for name, costs in found.items()}
    slopes = {name: slopes_of(config, found[name]) for name in (START, SFT, SLIPPED, PPO)}
    size = f"{sizes.num_seeds} seeds, {sizes.start_steps + sizes.ppo_steps} x {sizes.tokens} tokens"
    longest = f"{sizes.lengths[-1]} brackets, {size}"
    about: dict[str, Any] = {
        "kind": "paper",
        "source": "RLHF has no compounding error where SFT has",
    }
    gates = [
        mean_claim(
            f"Language, SFT: cost without slips over cost with them, {longest}",
            last["SFT, no slips"] / last[SFT],
            "<=",
            0.5,
            kind="ours",
            source="a gate: most of what the clone costs must come from slips",
            baseline=("the clone with slips over the expert", (last[SFT] / last["expert"]).mean()),
        )
    ]
    claims = [
        mean_claim(
            f"Language, SFT: slope of log cost in log length, {size}",
            slopes[SFT],
            ">=",
            1.8,
            kind="theorem",
            source="slips compound: cost of order T^2",
            baseline=(SLIPPED, slopes[SLIPPED].mean()),
        ),
        mean_claim(
            f"Language, PPO: slope of log cost in log length, {size}",
            slopes[PPO],
            "<=",
            1.2,
            baseline=(SFT, slopes[SFT].mean()),
            **about,
        ),
        mean_claim(
            f"Language, PPO: cost over that of SFT on as many answers, {longest}",
            last[PPO] / last[SFT],
            "<=",
            0.05,
            baseline=(START, (last[START] / last[SFT]).mean()),
            **about,
        ),
        mean_claim(
            f"Language, PPO: cost over that of SFT on as many answers with slips, {longest}",
            last[PPO] / last[SLIPPED],
            "<=",
            1.0,
            baseline=(SFT, (last[SFT] / last[SLIPPED]).mean()),
            **about,
        ),
    ]
    return behind_gates(gates, claims)


def language_table(config: Config, found: Arrays) -> Table:
    """Costs by method and length, with the slopes."""
    rows = [
        (name, *(mean_text(x) for x in costs.T), mean_text(slopes_of(config, costs)))
        for name, costs in ((name, found[name]) for name in (*SHOWN, "SFT, no slips"))
    ]
    sizes = config.language
    return Table(
        f"Cost of brackets, slips at a rate of {sizes.slip:g}",
        ("method", *(f"{length} brackets" for length in sizes.lengths), "slope"),
        rows,
        note=f"means of {sizes.num_seeds} seeds [95%]; slope of log cost in log length",
    )


def write_language(
    job: Run, config: Config, found: Arrays, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figure, and writes report.html."""
    save_stages(job.out, {"language": found})
    sizes = config.language
    lengths = np.array(sizes.lengths, float)
    squares = found[SFT].mean(0)[0] * (lengths / lengths[0]) ** 2
    panel = Panel(
        "Brackets",
        "length of the answer (brackets)",
        "total cost",
        {name: band(lengths, found[name], centre="mean") for name in SHOWN},
        guides={"slope 2": Series(lengths, squares)},
        log_x=True,
        log_y=True,
    )
    drawn = {
        "language": show_panels(
            [panel],
            "Cost against length",
            "Total cost of answers to held-out prompts by a transformer of two layers that is "
            "trained anew at each length, every policy with slips. All but the start have seen as "
            "many answers: demonstrations without slips, with slips, or its own (PPO).",
            "SFT rises with the square of the length, PPO and SFT with slips with the length",
        )
    }
    write_page(
        job.out,
        "What RLHF owes to imitation: language",
        paper=PAPER,
        lead="A text of brackets, each to be closed before the next one opens. A slip leaves one "
        "open, and demonstrations without slips do not show how to close it.",
        claims=claims,
        figures=drawn,
        table=table,
    )
