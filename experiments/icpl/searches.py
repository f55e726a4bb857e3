"""Searches for a reward program on every grid, by who proposes and who ranks."""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import numpy as np

from experiments.icpl.config import Config
from experiments.icpl.world import GRAMMAR, Score, best_score, draw_grid, scorer
from rlhf_jax.rewards.programs import (
    ProgramSearch,
    RewardProgram,
    Trial,
    grammar_proposer,
    query_count,
    random_program,
    search_programs,
)

ICPL, BEST_ONLY, NOISY, OPEN = "ICPL", "best only", "noisy person", "OpenLoop"
BUDGET = (5, 6)  # rounds and programs of the paper: 49 comparisons


def run_searches(config: Config) -> dict[str, np.ndarray]:
    """Of every grid: incumbents' scores by round [N, T] of each search, the best of the new
    programs by round ("fresh", "open fresh"), comparisons so far, and the best policy's score [N].
    """
    found = [search_grid(config, seed) for seed in range(config.num_seeds)]
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def search_grid(config: Config, seed: int) -> dict[str, np.ndarray]:
    """All searches on one grid."""
    grid = draw_grid(config, seed)
    score = scorer(grid)
    rng = partial(fresh_rng, config, seed)
    sizes: dict[str, Any] = {"number": config.number, "rounds": config.rounds}
    icpl = search(score, rng(), **sizes)
    only = search(score, rng(), use_worst=False, **sizes)
    noisy = search(score, rng(), noise=config.noise, **sizes)
    opened = open_loop(score, rng(), **sizes)
    return {
        ICPL: incumbents(icpl),
        "fresh": np.array([each.trials[each.best].shown[0] for each in icpl.rounds]),
        BEST_ONLY: incumbents(only),
        NOISY: incumbents(noisy),
        OPEN: np.maximum.accumulate(opened),
        "open fresh": opened,
        "queries": np.cumsum([each.queries for each in icpl.rounds]),
        "oracle": np.asarray(best_score(grid)),
    }


def search(
    score: Score,
    rng: Random,
    *,
    number: int,
    rounds: int,
    use_worst: bool = True,
    noise: float = 0.0,
) -> ProgramSearch:
    """One search; what is shown is (score, score as the person sees it), and the second decides."""

    def train(programs: Sequence[RewardProgram]) -> list[Trial]:
        scores = score(programs)
        seen = [x + noise * rng.gauss(0, 1) for x in scores]
        shown = zip(scores, seen, strict=True)
        return [Trial(*each, {}) for each in zip(programs, shown, strict=True)]

    return search_programs(
        grammar_proposer(GRAMMAR, use_worst=use_worst),
        train,
        lambda first, second: first[1] > second[1],
        task="reach the far corner without stepping on hazards",
        number=number,
        rounds=rounds,
        rng=rng,
    )


def incumbents(found: ProgramSearch) -> np.ndarray:
    """[T] true score of the incumbent after each round."""
    return np.array([trial.shown[0] for trial in found.incumbents])


def last_score(found: ProgramSearch) -> np.ndarray:
    """True score of the incumbent at the end."""
    return incumbents(found)[-1]


def open_loop(score: Score, rng: Random, *, number: int, rounds: int) -> np.ndarray:
    """[T] the best of each round of programs that have no feedback."""
    batches = [[random_program(GRAMMAR, rng) for _ in range(number)] for _ in range(rounds)]
    return np.array([score(batch).max() for batch in batches])


def run_long(config: Config) -> dict[str, np.ndarray]:
    """ICPL and OpenLoop for more rounds, [N, T], on the same grids."""
    sizes: dict[str, Any] = {"number": config.number, "rounds": config.long_rounds}
    return on_every_grid(
        config,
        {
            ICPL: lambda score, rng: incumbents(search(score, rng, **sizes)),
            OPEN: lambda score, rng: np.maximum.accumulate(open_loop(score, rng, **sizes)),
        },
    )


def run_numbers(config: Config) -> dict[str, np.ndarray]:
    """The last incumbent's score [N] of K programs a round at no more comparisons than 49."""
    ways = {}
    for number in config.numbers:
        rounds = rounds_within(query_count(*BUDGET), number)
        sizes: dict[str, Any] = {"number": number, "rounds": rounds}
        ways[str(number)] = lambda score, rng, sizes=sizes: last_score(search(score, rng, **sizes))
    return on_every_grid(config, ways)


def on_every_grid(
    config: Config, ways: dict[str, Callable[[Score, Random], np.ndarray]]
) -> dict[str, np.ndarray]:
    """The numbers of each way on every grid, [N, ...]."""
    scores = [scorer(draw_grid(config, seed)) for seed in range(config.num_seeds)]
    return {
        name: np.stack([way(score, fresh_rng(config, n)) for n, score in enumerate(scores)])
        for name, way in ways.items()
    }


def fresh_rng(config: Config, seed: int) -> Random:
    """The same for every search on a grid: all of them begin with the same programs."""
    return Random(f"icpl {config.seed} {seed}")


def rounds_within(queries: int, number: int) -> int:
    """The most rounds of `number` programs that ask no more than that many comparisons, at least 1.

    N (2 K - 3) + N - 1 <= Q.
    """
    return max(1, (queries + 1) // (2 * number - 2))
