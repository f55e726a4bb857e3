"""Cloning against planning, prompts from logged outcomes, on-policy against bootstrapped."""

from collections.abc import Mapping
from functools import partial

import jax
import numpy as np

from experiments.rl_perspective.claims import (
    PREFIXES,
    REPLAYED,
    compounding_claims,
    cost_slopes,
    prompt_claims,
    token_claims,
)
from experiments.rl_perspective.compounding import expected_costs
from experiments.rl_perspective.config import Config
from experiments.rl_perspective.panel import run_language
from experiments.rl_perspective.prefixes import replayed_q_learning
from experiments.rl_perspective.prompts import gap_closed, prompt_successes
from experiments.rl_perspective.report import write_report
from experiments.rl_perspective.tokens import METHODS, right_tokens
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """The tightrope, the prompts, the string; with `panel`, the language panel alone."""
    if config.panel:
        return run_language(config, job)
    keys = jax.random.split(jax.random.key(config.seed), 3)
    stages = {
        "costs": lambda: expected_costs(config.compounding, keys[0], config.num_seeds),
        "prompts": lambda: prompt_successes(config.prompts, keys[1], config.num_seeds),
        "tokens": lambda: token_curves(config, keys[2]),
    }
    found = run_stages(job, stages)
    claims = [
        *compounding_claims(config, found["costs"]),
        *prompt_claims(found["prompts"]),
        *token_claims(config.tokens, found["tokens"]),
    ]
    table = measured_table(config, found)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found), table=table)


def token_curves(config: Config, key: jax.Array) -> dict[str, np.ndarray]:
    """Share of right greedy tokens, [vocabularies, seeds, iterations]; with replay the first one.

    A table of prefixes has as many rows as there are strings: only the smallest vocabulary fits.
    """
    tokens = config.tokens
    curves = {
        name: right_tokens(tokens, key, config.num_seeds, tokens.vocabularies, method)
        for name, method in METHODS.items()
    }
    replayed = {
        f"{PREFIXES}, rate {rate:g}": partial(replayed_q_learning, prefix=True, rate=rate)
        for rate in tokens.q_rates
    }
    replayed[REPLAYED] = partial(replayed_q_learning, prefix=False, rate=tokens.q_rate)
    smallest = tokens.vocabularies[:1]
    return curves | {
        name: right_tokens(tokens, key, config.num_seeds, smallest, method)
        for name, method in replayed.items()
    }


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
