"""Cloning against planning, prompts from logged outcomes, on-policy against bootstrapped."""

from collections.abc import Mapping

import jax
import numpy as np

from experiments.rl_perspective.compounding import expected_costs
from experiments.rl_perspective.config import Config
from experiments.rl_perspective.prefixes import prefix_q_learning
from experiments.rl_perspective.prompts import gap_closed, prompt_successes
from experiments.rl_perspective.report import write_report
from experiments.rl_perspective.tokens import METHODS, right_tokens
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.rates import fit_rate
from rlhf_jax.training import Run, run_stage

Arrays = Mapping[str, np.ndarray]
PREFIXES = "Q-learning on prefixes, replay"


def run(config: Config, job: Run) -> Outcome:
    """The tightrope, the prompts, the string."""
    keys = jax.random.split(jax.random.key(config.seed), 3)
    stages = {
        "costs": lambda: expected_costs(config.compounding, keys[0], config.num_seeds),
        "prompts": lambda: prompt_successes(config.prompts, keys[1], config.num_seeds),
        "tokens": lambda: token_curves(config, keys[2]),
    }
    found = {
        name: run_stage(job, name, lambda _, work=work: (work(), {})).arrays
        for name, work in stages.items()
    }
    claims = [
        *compounding_claims(config, found["costs"]),
        *prompt_claims(found["prompts"]),
        *token_claims(found["tokens"]),
    ]
    table = measured_table(config, found)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found), table=table)


def token_curves(config: Config, key: jax.Array) -> dict[str, np.ndarray]:
    """Share of right greedy tokens, [vocabularies, seeds, iterations]; on prefixes the first one.

    A table of prefixes has as many rows as there are strings: only the smallest vocabulary fits.
    """
    tokens = config.tokens
    curves = {
        name: right_tokens(tokens, key, config.num_seeds, tokens.vocabularies, method)
        for name, method in METHODS.items()
    }
    smallest = tokens.vocabularies[:1]
    curves[PREFIXES] = right_tokens(tokens, key, config.num_seeds, smallest, prefix_q_learning)
    return curves


def compounding_claims(config: Config, costs: Arrays) -> list[Claim]:
    """Slopes of log cost in log T, the worst seed of each method, and the last costs."""
    slopes = {name: cost_slopes(config, costs[name]) for name in ("BC", "MaxEnt IRL", "RLHF")}
    return [
        Claim("BC: least slope of log cost in log T", slopes["BC"].min(), ">=", 1.8),
        Claim("MaxEnt IRL: largest slope", slopes["MaxEnt IRL"].max(), "<=", 1.2),
        Claim("RLHF: largest slope", slopes["RLHF"].max(), "<=", 1.2),
        Claim(
            "RLHF: largest cost over that of BC, longest T",
            (costs["RLHF"] / costs["BC"])[:, -1].max(),
            "<=",
            0.05,
        ),
    ]


def cost_slopes(config: Config, costs: np.ndarray) -> np.ndarray:
    """Slope of each seed, from costs [seeds, horizons]."""
    return fit_rate(config.compounding.horizons, costs, law="power").slopes


def prompt_claims(found: Arrays) -> list[Claim]:
    """Gaps closed with all logged queries, and more queries never do worse."""
    closed = {which: gap_closed(found, which) for which in ("logged prompts", "all prompts")}
    means = [found[f"OIRL, {which}"].mean(0) for which in closed]
    return [
        Claim(
            "OIRL, logged prompts: least gap closed",
            closed["logged prompts"][:, -1].min(),
            ">=",
            0.9,
        ),
        Claim(
            "OIRL, all prompts: share of seeds that close 0.8 of the gap",
            (closed["all prompts"][:, -1] >= 0.8).mean(),
            ">=",
            0.8,
        ),
        Claim(
            "OIRL: least rise of mean success with more queries", np.diff(means).min(), ">=", 0.0
        ),
    ]


def token_claims(curves: Arrays) -> list[Claim]:
    """Shares of right tokens at the end, means over seeds."""
    ends = {name: curve[..., -1].mean(-1) for name, curve in curves.items()}
    values = ends["Q-learning"]
    return [
        Claim("REINFORCE: least share of right tokens", ends["REINFORCE"].min(), ">=", 0.95),
        Claim("Q-learning: share of right tokens, least |V|", values[0], "<=", 0.5),
        Claim("Q-learning: largest rise with |V|", np.diff(values).max(), "<=", 0.0),
        Claim(
            "Q-learning: lead of prefixes over positions", ends[PREFIXES][0] - values[0], ">", 0.0
        ),
    ]


def measured_table(config: Config, found: Mapping[str, Arrays]) -> Table:
    """Costs by method and horizon, means over seeds."""
    rows = []
    for name, costs in found["costs"].items():
        if name != "irl/gap":
            slopes = cost_slopes(config, costs)
            rows.append(
                (
                    name,
                    *costs.mean(0),
                    f"{slopes.mean():.2f} ({slopes.min():.2f} to {slopes.max():.2f})",
                )
            )
    return Table(
        f"Expected cost on the tightrope, slips at a rate of {config.compounding.slip:g}",
        ("method", *(f"T = {horizon}" for horizon in config.compounding.horizons), "slope"),
        rows,
        note=f"means over {config.num_seeds} seeds; slope of log cost in log T, with its range",
    )


def summary(config: Config, found: Mapping[str, Arrays]) -> dict:
    """Means over seeds of everything that is not in the table."""
    closed = {
        which: gap_closed(found["prompts"], which) for which in ("logged prompts", "all prompts")
    }
    return {
        "success": {name: values.mean(0).tolist() for name, values in found["prompts"].items()},
        "gap closed": {which: shares.mean(0).tolist() for which, shares in closed.items()},
        "gap closed, least": {which: shares.min(0).tolist() for which, shares in closed.items()},
        "right tokens": {
            name: curve[..., -1].mean(-1).tolist() for name, curve in found["tokens"].items()
        },
        "right tokens, sd": {
            name: curve[..., -1].std(-1).tolist() for name, curve in found["tokens"].items()
        },
        "irl gap": float(found["costs"]["irl/gap"].max()),
        "slopes": {
            name: cost_slopes(config, costs).tolist()
            for name, costs in found["costs"].items()
            if name != "irl/gap"
        },
    }
