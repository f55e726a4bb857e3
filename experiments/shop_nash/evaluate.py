"""All policies against each other on held-out prompts: tournament, worst case, exploitability."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop_nash.population import judged
from rlhf_jax.envs import shop
from rlhf_jax.exact.answer_games import solve_answer_games, summarise
from rlhf_jax.labs.shop import shop_task
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.statistics import mean_with_interval
from rlhf_jax.recipes import LanguageLab, make_prompts, stage_key
from rlhf_jax.recipes.lab import CHUNK, decode_texts, wrapped
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
    key, parts = stage_key(lab, f"evaluation of {name}"), []
    for start in range(0, len(indices), CHUNK):
        prompts = make_prompts(lab, shop_task(lab.seed), wrapped(indices, start, CHUNK))
        rollout = lab.draw(params, prompts, key, samples)
        trajectory = rollout.trajectory
        ref_logps = sequence_logps(lab.token_logps(ref, trajectory), trajectory.mask)
        logps = sequence_logps(rollout.token_logps, trajectory.mask)
        lengths = jnp.sum(trajectory.mask, axis=-1)
        parts.append(jax.device_get((trajectory.actions, logps - ref_logps, lengths)))
    actions, log_ratios, lengths = (
        np.concatenate(column)[: len(indices)] for column in zip(*parts, strict=True)
    )
    texts = decode_texts(lab, actions.reshape(-1, actions.shape[-1]))
    found = judged(lab, np.repeat(indices, samples), texts)
    shape = (len(indices), samples)
    rows = [texts[i : i + samples] for i in range(0, len(texts), samples)]
    split = (x.reshape(*shape, *x.shape[1:]) for x in found)
    return Sampled(rows, *split, log_ratios, lengths)


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
    names = tuple(utilities)
    samples = next(iter(utilities.values())).shape[1]
    pool = np.concatenate(list(utilities.values()), axis=1)
    prefs = shop.group_prefs(pool, beta=beta)
    blocks = prefs.reshape(len(pool), len(names), samples, len(names), samples)
    wins = blocks.mean((2, 4))
    wins[:, range(len(names)), range(len(names))] = 0.5
    owners = np.repeat(np.arange(len(names)), samples)
    solved = {
        name: solve_answer_games(prefs, np.broadcast_to(owners == i, prefs.shape[:2]))
        for i, name in enumerate(names)
    }
    gaps = {name: summarise(one) for name, one in solved.items()}
    crossfit = {name: one.crossfit_gap for name, one in solved.items()}
    return Tournament(names, wins, gaps, crossfit)


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
