"""What the policies are worth: exact exploitability, a trained exploiter, pairs in two voices."""

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy
from jaxtyping import Float

from experiments.shop_nash.bits import exact_judge
from experiments.shop_nash.config import Config
from experiments.shop_nash.methods import plain_adam
from experiments.shop_nash.world import (
    exploitability,
    game_prompts,
    game_task,
    population_prefs,
    read,
    turns,
)
from rlhf_jax.algos.selfplay import nash_md_pg
from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.voices import VOICES, voice_answer
from rlhf_jax.labs.shop import SPLITS
from rlhf_jax.recipes import Fit, LanguageLab, Measured, measure, selfplay, stage_key
from rlhf_jax.recipes.lab import wrapped
from rlhf_jax.recipes.offline import pair_scores, preference_of
from rlhf_jax.recipes.rows import in_chunks, pair_batch
from rlhf_jax.training import Stage, StageResult
from rlhf_jax.types import Draw, Params, Prompts, Rollout

RIDGE = 1e-6  # keeps the fit of a score unique: a shift of all voices changes nothing


class Method(NamedTuple):
    """The training runs of a method.

    name, beta: as in `methods.Entry`. bits: of each run. at: [P] bits spent at each point.
    params: of the last policy of each seed. shares: [S, P, N, 4] at each point, see `make_shares`.
    policies: of seed 0 with a leading axis of points, or None.
    """

    name: str
    beta: float
    bits: int
    at: np.ndarray
    params: Sequence[Params]
    shares: Float[np.ndarray, "S P N 4"]
    policies: Params | None = None

    @property
    def label(self) -> str:
        """Name and KL weight."""
        return f"{self.name}, beta {self.beta:g}"

    def last_gaps(self, prefs: np.ndarray) -> Float[np.ndarray, "S P N"]:
        """Exploitability of the last policy at each point."""
        return exploitability(self.shares, prefs)

    def average_gaps(self, prefs: np.ndarray) -> Float[np.ndarray, "S P N"]:
        """Exploitability of the mixture of all policies up to each point."""
        counts = np.arange(1, self.shares.shape[1] + 1)[:, None, None]
        return exploitability(np.cumsum(self.shares, axis=1) / counts, prefs)

    def turns(self, sft: np.ndarray) -> Float[np.ndarray, "S N"]:
        """How often each run goes round the equilibrium, from SFT's shares [N, 4]."""
        start = np.broadcast_to(sft, self.shares[:, :1].shape)
        return turns(np.concatenate([start, self.shares], axis=1))


class Facts(NamedTuple):
    """What claims and report are made of.

    prefs: [4, 4] of the voice game. sft: [N, 4] shares of SFT. measured: method -> "gold", "voice",
    "kl" [M, K] of held-out prompts. accuracies: of `accuracies`. exploited: method and "last" or
    "average" -> [N] gaps of a trained exploiter. seconds: stage -> seconds.
    """

    prefs: np.ndarray
    sft: np.ndarray
    measured: Mapping[str, Mapping[str, np.ndarray]]
    accuracies: Mapping[str, np.ndarray]
    exploited: Mapping[tuple[str, str], np.ndarray]
    seconds: Mapping[str, float]


def as_method(
    name: str, beta: float, bits: int, at: np.ndarray, done: Sequence[StageResult]
) -> Method:
    """The results of a method's stages, {"params", "shares" and maybe "policies"} each."""
    arrays = [one.arrays for one in done]
    return Method(
        name,
        beta,
        bits,
        at,
        [each["params"] for each in arrays],
        np.stack([each["shares"] for each in arrays]),
        arrays[0].get("policies"),
    )


def measure_policy(
    lab: LanguageLab, config: Config, name: str, params: Params, sft: Params
) -> Measured:
    """Answers to held-out prompts, with a key of the policy's own name."""
    size = config.evaluation
    indices = np.array(SPLITS["heldout"][: size.prompts])
    key = stage_key(lab, f"evaluation of {name}")
    task = game_task(lab.seed)
    return measure(lab, task, params, sft, indices, key, samples=size.samples)


def competence(
    lab: LanguageLab, config: Config, sft: Params, first: Params
) -> tuple[dict[str, np.ndarray], dict]:
    """What the gate reads of SFT's answers: "voiced", "listed" of recommendations, "untrained"."""
    indices = np.array(SPLITS["heldout"][: config.evaluation.gate_prompts])
    task = game_task(lab.seed)
    own, before = (
        measure(lab, task, params, sft, indices, stage_key(lab, f"competence of {name}")).named
        for name, params in (("sft", sft), ("untrained", first))
    )
    listed = own["listed"][:, 0]
    return {
        "voiced": own["voice"][:, 0] > 0,
        "listed": listed[~np.isnan(listed)] > 0,
        "untrained": np.asarray(before["voice"].mean()),
    }, {}


def frozen_draw(lab: LanguageLab, policies: Sequence[Params]) -> Draw:
    """Draws from a mixture that does not learn: each call from one of the policies."""

    def draw(
        params: Params, prompts: Prompts, key: jax.Array, samples: int, first: int = 0
    ) -> Rollout:
        chosen = int(jax.random.randint(key, (), 0, len(policies)))
        return lab.draw(policies[chosen], prompts, key, samples, first)

    return draw


def fit_exploiter(
    stage: Stage, lab: LanguageLab, config: Config, sft: Params, policies: Sequence[Params]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A policy gradient against a frozen mixture, before the population's own preferences.

    Returns:
      {"gaps": [N] 2 (P(exploiter > mixture) - 1/2) of each prompt of the game, from fresh answers,
      at most the exploitability in all answers}; {"answers": of each side}.
    """
    size, prompts = config.evaluation, game_prompts(config)
    played = selfplay(
        stage,
        lab,
        game_task(lab.seed),
        partial(nash_md_pg, beta=config.game.low_beta, mixed_draw=frozen_draw(lab, policies)),
        exact_judge(lab, beta=config.game.judge_beta),
        sft,
        [wrapped(prompts, i * len(prompts), size.exploiter_prompts)
         for i in range(size.exploiter_rounds)],
        Fit(plain_adam(config.game.low_rate), size.exploiter_rounds, save_every=500),
        key=stage_key(lab, stage.name),
    )  # fmt: skip
    task, duels = game_task(lab.seed), max(1, size.duels // len(policies))
    own_key, other_key = (stage_key(lab, f"{stage.name} {side}") for side in ("own", "other"))
    exploiter, found = played.state.train.params, []
    for i, policy in enumerate(policies):
        first = i * duels
        own, other = (
            measure(lab, task, one, sft, prompts, key, samples=duels, first=first).texts
            for one, key in ((exploiter, own_key), (policy, other_key))
        )
        numbers = np.repeat(prompts, duels)
        sides = ([text for row in texts for text in row] for texts in (own, other))
        prefs = population_prefs(lab.seed, numbers, *sides, beta=config.game.judge_beta)
        found.append(prefs.reshape(len(prompts), duels).mean(1))
    answers = len(policies) * duels * len(prompts)
    return {"gaps": 2.0 * np.mean(found, axis=0) - 1.0}, {"answers": answers}


def unstacked(policies: Params) -> list[Params]:
    """Params with a leading axis of points, one by one."""
    count = len(jax.tree.leaves(policies)[0])
    return [jax.tree.map(lambda x, i=i: x[i], policies) for i in range(count)]


class TwoVoices(NamedTuple):
    """Pairs of answers in two different voices, all pairs of voices alike.

    records: "prompt", "chosen" (the first) and "rejected" (the second). prefs, one_judge: [N] how
    the population and its first judge prefer the first. features: [N, 4] of the first less those of
    the second: three voices and gold.
    """

    records: list[dict[str, str]]
    prefs: np.ndarray
    one_judge: np.ndarray
    features: np.ndarray


def two_voices(config: Config) -> TwoVoices:
    """Held-out pairs of the world's own answers."""
    seed, beta = config.seed, config.game.judge_beta
    indices = np.array(SPLITS["heldout_pairs"][: config.evaluation.pairs])
    records, features = [], []
    for i in indices.tolist():
        prompt = shop.make_prompt(seed, i)
        voices = Random(f"shop_nash pair/{seed}/{i}").sample(range(len(VOICES)), 2)
        both = [voice_answer(seed, prompt, k, voice) for k, voice in enumerate(voices)]
        records.append({"prompt": prompt.text, "chosen": both[0], "rejected": both[1]})
        gold = [read(seed, i, text).gold for text in both]
        one, other = np.eye(len(VOICES))[voices]
        features.append([*(one - other), gold[0] - gold[1]])
    sides = [[row[side] for row in records] for side in ("chosen", "rejected")]
    prefs, one_judge = (
        population_prefs(seed, indices, *sides, beta=beta, judges=judges)
        for judges in (None, np.array([1.0, 0.0, 0.0]))
    )
    return TwoVoices(records, prefs, one_judge, np.array(features))


def best_scores(features: np.ndarray, prefs: np.ndarray) -> Float[np.ndarray, "N"]:
    """Margins of the Bradley-Terry fit to the preferences themselves, linear in the features.

    It is what infinitely many labels of these pairs would give a score of voice and gold.
    """

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = features @ weights
        value = np.mean(np.logaddexp(0.0, margins) - prefs * margins)
        slopes = features.T @ (scipy.special.expit(margins) - prefs) / len(prefs)
        return value + RIDGE * weights @ weights, slopes + 2 * RIDGE * weights

    start = np.zeros(features.shape[1])
    return features @ scipy.optimize.minimize(loss, start, jac=True, method="BFGS").x


def accuracies(
    lab: LanguageLab, config: Config, reward: Params, pairwise: Params
) -> dict[str, np.ndarray]:
    """[N] chance that each is right about one judge's label.

    Who knows the preference p is right with chance max(p, 1 - p).

    Returns:
      "bayes", who knows p; "best_score", `best_scores`; "bradley_terry" and "pairwise", the models;
      "one_judge_bayes" and "one_judge_score", the first two where all labels are of one judge.
    """
    pairs, size = two_voices(config), config.control.model.batch_size
    scores = pair_scores(lab, reward, pairs.records, batch_size=size)
    logits = jax.jit(preference_of(lab).logits)

    def margins(part: list[dict]) -> jax.Array:
        batch = pair_batch(lab, part)
        return logits(pairwise, batch.chosen, batch.rejected)

    def right(prefs: np.ndarray, margin: np.ndarray) -> np.ndarray:
        return 0.5 + np.sign(margin) * (prefs - 0.5)

    p, one = pairs.prefs, pairs.one_judge
    return {
        "bayes": right(p, p - 0.5),
        "best_score": right(p, best_scores(pairs.features, p)),
        "bradley_terry": right(p, scores[:, 0] - scores[:, 1]),
        "pairwise": right(p, in_chunks(margins, pairs.records, size=size)),
        "one_judge_bayes": right(one, one - 0.5),
        "one_judge_score": right(one, best_scores(pairs.features, one)),
    }


class Models(NamedTuple):
    """Of the same pairs of SFT's answers: Bradley-Terry scores and a pairwise model."""

    reward: Params
    pairwise: Params


def evaluate(
    lab: LanguageLab,
    config: Config,
    sft: Params,
    policies: Mapping[str, Params],
    models: Models,
) -> tuple[dict[str, Any], dict]:
    """Answers of every policy to held-out prompts, and the accuracies of the two models."""
    found = {
        name: measure_policy(lab, config, name, params, sft)
        for name, params in {"sft": sft, **policies}.items()
    }
    return {
        "policies": {
            name: {"gold": one.named["gold"], "voice": one.named["voice"], "kl": one.log_ratios}
            for name, one in found.items()
        },
        "accuracies": accuracies(lab, config, *models),
    }, {}
