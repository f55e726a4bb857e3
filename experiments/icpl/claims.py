"""What icpl claims, from the arrays of its stages; grids are the units."""

from collections.abc import Mapping

import numpy as np

from experiments.icpl.config import Config
from experiments.icpl.searches import BEST_ONLY, ICPL, NOISY, OPEN
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim
from rlhf_jax.rewards.programs import query_count

Arrays = Mapping[str, np.ndarray]
SPEC = "acceptance of this design, from a NumPy run of it on 20 grids"
FEW = 1500  # pairs that the baseline of the economy has, or the most below it


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """In the order of the page."""
    found = stages["searches"]
    return [
        *open_loop_claims(config, found),
        progress_claim(config, found),
        oracle_claim(config, found),
        *pair_claims(config, stages),
        worst_claim(config, found),
        long_claim(config, stages["long"]),
        whole_progress_claim(config, found),
        same_queries_claim(config, stages),
    ]


def size_of(config: Config) -> str:
    """The search in words."""
    queries = query_count(config.rounds, config.number)
    return f"{config.rounds} rounds of {config.number} programs, {queries} comparisons"


def open_loop_claims(config: Config, found: Arrays) -> list[Claim]:
    """Feedback against none, at the same number of trained policies."""
    icpl, open_loop = found[ICPL][:, -1], found[OPEN][:, -1]
    started = found[ICPL][:, 0] > 0
    first = found[ICPL][:, 0] - open_loop
    return [
        mean_claim(
            f"ICPL minus OpenLoop, {size_of(config)}: score of the policy",
            icpl - open_loop,
            ">=",
            0.05,
            kind="ours",
            source=SPEC + ": 0.110",
            baseline=("the best of the first round minus OpenLoop", first.mean()),
        ),
        Claim(
            f"ICPL, {size_of(config)}: share of the {config.num_seeds} grids of this run on which "
            "it is not below OpenLoop",
            np.mean(icpl >= open_loop),
            ">=",
            0.7,
            kind="ours",
            source=SPEC + ": 16 of 20, and 14 asked",
            baseline=("the best of the first round", np.mean(found[ICPL][:, 0] >= open_loop)),
        ),
        mean_claim(
            f"ICPL minus OpenLoop, {size_of(config)}, on the {started.sum()} grids where a policy "
            "of the first round, which both have, scores above 0",
            (icpl - open_loop)[started],
            ">=",
            0.0,
            kind="ours",
            source="the suspected cause of a lost grid, a first round without any way to the goal, "
            "removed",
            baseline=("the best of the first round minus OpenLoop", first[started].mean()),
        ),
    ]


def progress_claim(config: Config, found: Arrays) -> Claim:
    """Of fresh programs: the incumbent cannot fall, whatever is proposed."""
    steps = np.diff(found["fresh"], axis=1)
    least = int(steps.mean(0).argmin())
    fresh_open = found["open fresh"]
    return mean_claim(
        f"ICPL, {size_of(config)}: gain of the best new program from round {least + 1} to "
        f"{least + 2}, the smallest mean gain between rounds",
        steps[:, least],
        ">",
        0.0,
        kind="paper",
        source="the gain continues over iterations, so that it is not only the proposer's prior",
        baseline=("OpenLoop's smallest", np.diff(fresh_open, axis=1).mean(0).min()),
    )


def oracle_claim(config: Config, found: Arrays) -> Claim:
    """How much of what can be had."""
    share = float(found[OPEN][:, 0].mean() / found["oracle"].mean())
    return bootstrap_claim(
        f"ICPL, {size_of(config)}: mean score over that of the best policy",
        lambda scores, oracle: float(scores.mean() / oracle.mean()),
        (found[ICPL][:, -1], found["oracle"]),
        ">=",
        0.9,
        kind="ours",
        source=SPEC + ": 0.957",
        baseline=("the best of the first round", share),
    )


def pair_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """Comparisons of policies against comparisons of trajectories."""
    place = pairs_place(config)
    pairs = config.pairs[place]
    scores = stages["networks"]["score"]
    icpl = stages["searches"][ICPL][: len(scores), -1]
    what = f"ICPL, {size_of(config)}, against a reward of every cell by {pairs} pairs"
    return [
        Claim(
            f"{what}: share of the {len(scores)} grids of this run on which it is above",
            np.mean(icpl > scores[:, place]),
            ">=",
            0.8,
            kind="paper",
            source="49 queries against up to 15,000; 8 of 10 is the acceptance of this design",
            baseline=(
                f"the reward by {config.pairs[0]} pairs",
                np.mean(scores[:, 0] > scores[:, place]),
            ),
        ),
        mean_claim(
            f"{what}: difference of the scores",
            icpl - scores[:, place],
            ">",
            0.0,
            kind="paper",
            source="49 queries against up to 15,000",
            baseline=(
                f"the reward by {config.pairs[0]} pairs",
                (scores[:, 0] - scores[:, place]).mean(),
            ),
        ),
    ]


def whole_progress_claim(config: Config, found: Arrays) -> Claim:
    """All rounds together; OpenLoop's rounds are alike but for chance."""
    return mean_claim(
        f"ICPL, {size_of(config)}: gain of the best new program from the first round to the last",
        found["fresh"][:, -1] - found["fresh"][:, 0],
        ">=",
        0.1,
        kind="paper",
        source="the gain continues over iterations; 0.1 is beyond the chance of OpenLoop's rounds",
        baseline=(
            "OpenLoop's rounds",
            (found["open fresh"][:, -1] - found["open fresh"][:, 0]).mean(),
        ),
    )


def same_queries_claim(config: Config, stages: Mapping[str, Arrays]) -> Claim:
    """At the fewest pairs, the number of comparisons of ICPL in the published run."""
    scores, random = stages["networks"]["score"][:, 0], stages["networks"]["random"]
    return mean_claim(
        f"ICPL, {size_of(config)}, minus a reward of every cell by {config.pairs[0]} pairs: score",
        stages["searches"][ICPL][: len(scores), -1] - scores,
        ">",
        0.0,
        kind="paper",
        source="Ant: 12.04 against 0.743 of PrefPPO, 49 queries each (by a summary of the paper)",
        baseline=("a random reward of every cell, no pairs, minus it", (random - scores).mean()),
    )


def pairs_place(config: Config) -> int:
    """The size that is nearest to FEW from below, not the first one."""
    return max(1, sum(pairs <= FEW for pairs in config.pairs) - 1)


def worst_claim(config: Config, found: Arrays) -> Claim:
    """The negative example."""
    return mean_claim(
        f"ICPL minus ICPL without the worst program, {size_of(config)}: score of the policy",
        found[ICPL][:, -1] - found[BEST_ONLY][:, -1],
        ">",
        0.0,
        kind="ours",
        source=SPEC + ": 0.036, not below on 15 of 20",
        baseline=(
            "with it, a person who errs",
            (found[NOISY][:, -1] - found[BEST_ONLY][:, -1]).mean(),
        ),
    )


def long_claim(config: Config, long: Arrays) -> Claim:
    """The same with more rounds, in which a lost lineage can recover."""
    gaps = long[ICPL][:, -1] - long[OPEN][:, -1]
    queries = query_count(config.long_rounds, config.number)
    return mean_claim(
        f"ICPL minus OpenLoop, {config.long_rounds} rounds of {config.number} programs, {queries} "
        "comparisons: score of the policy",
        gaps,
        ">",
        0.0,
        kind="ours",
        source="feedback goes on where random programs repeat themselves",
        baseline=(
            "the best of the first round minus OpenLoop",
            (long[ICPL][:, 0] - long[OPEN][:, -1]).mean(),
        ),
    )
