"""All policies against each other on held-out prompts: tournament, worst case, exploitability."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.shop_nash.population import judged
from rlhf_jax.envs import shop
from rlhf_jax.exact.answer_games import summarise
from rlhf_jax.labs.shop import shop_task
from rlhf_jax.ops.statistics import mean_with_interval
from rlhf_jax.recipes import LanguageLab, stage_key
from rlhf_jax.recipes.evaluation import measure
from rlhf_jax.recipes.tournament import pool_tournament
from rlhf_jax.types import Params

RESAMPLES = 2000


class Sampled(NamedTuple):
    """K answers of a policy to each of N prompts.

    texts: N lists of K. utilities, styles: [N, K, 3]. gold, log_ratios, lengths: [N, K], log_ratios
    in nats to SFT.
    """

    texts: list[list[str]]
    utilities: np.ndarray
    styles: np.ndarray
    gold: np.ndarray
    log_ratios: np.ndarray
    lengths: np.ndarray


def sample_answers(
    lab: LanguageLab, name: str, params: Params, ref: Params, indices: np.ndarray, samples: int
) -> Sampled:
    """Draws with a key of the policy's own name, so that no two policies share their luck."""
    task, key = shop_task(lab.seed), stage_key(lab, f"evaluation of {name}")
    found = measure(lab, task, params, ref, indices, key, samples=samples)
    texts = [text for row in found.texts for text in row]
    scored = judged(lab, np.repeat(indices, samples), texts)
    shape = (len(indices), samples)
    split = (x.reshape(*shape, *x.shape[1:]) for x in scored)
    return Sampled(found.texts, *split, found.log_ratios, found.lengths)


class Tournament(NamedTuple):
    """Every policy against every other, M policies on N prompts.

    names: M. wins: [N, M, M] win rate of the row's policy over the column's on each prompt, 1/2
      against itself. gaps: name -> [mean, low, high] of each number of `exact.answer_games`, the
      pool being all answers of all policies.
    crossfit_gaps: name -> [N] of each prompt.
    """

    names: tuple[str, ...]
    wins: np.ndarray
    gaps: Mapping[str, Mapping[str, np.ndarray]]
    crossfit_gaps: Mapping[str, np.ndarray]


def play(utilities: Mapping[str, np.ndarray], *, beta: float) -> Tournament:
    """Judges every answer against every other, from utilities [N, K, 3] of each policy."""
    pool = np.concatenate(list(utilities.values()), axis=1)
    found = pool_tournament(tuple(utilities), shop.group_prefs(pool, beta=beta))
    gaps = {name: summarise(one) for name, one in found.games.items()}
    crossfit = {name: one.crossfit_gap for name, one in found.games.items()}
    return Tournament(found.names, found.wins, gaps, crossfit)


class Standing(NamedTuple):
    """Where a policy stands. worst: lowest mean win rate over its rivals, and the ends of its 95%
    bootstrap interval over prompts, the minimum taken anew in each resample; rival: who holds it
    down. gap, crossfit_gap: [mean, low, high] as in `exact.answer_games`. against_sft: likewise."""

    worst: np.ndarray
    rival: str
    gap: np.ndarray
    crossfit_gap: np.ndarray
    against_sft: np.ndarray


def standings(games: Tournament, *, seed: int) -> dict[str, Standing]:
    """Every policy against all other trained ones; SFT is no rival."""
    trained = [i for i, name in enumerate(games.names) if name != "SFT"]
    sft = games.names.index("SFT")
    found = {}
    for player, name in enumerate(games.names):
        rivals = [i for i in trained if i != player]
        rates = games.wins[:, player, rivals]
        rows = np.random.default_rng(seed).integers(len(rates), size=(RESAMPLES, len(rates)))
        low, high = np.quantile(rates[rows].mean(1).min(-1), [0.025, 0.975])
        means = rates.mean(0)
        found[name] = Standing(
            np.array([means.min(), low, high]),
            games.names[rivals[int(means.argmin())]],
            games.gaps[name]["gap"],
            games.gaps[name]["crossfit_gap"],
            np.asarray(mean_with_interval(jnp.asarray(games.wins[:, player, sft]))),
        )
    return found
