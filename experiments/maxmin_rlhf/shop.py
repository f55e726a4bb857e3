"""The language panel: the shop's SFT policy, trained for users of whom a few want other answers.

A practical majority and a talkative minority (`shop.GROUPS`) label pairs of the policy's answers,
each user by the utility of its group. Rewards are linear in the vectors of the frozen policy: one
for everybody, or a mixture of two by EM. GRPO then serves the one reward, or in each step the group
of the mixture that is worst off; no policy sees utilities.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.maxmin_rlhf.config import Config, ShopPanel
from experiments.maxmin_rlhf.world import group_recall
from rlhf_jax.algos.mixture_reward import MixtureParams, init_restarts
from rlhf_jax.cli.mixtures import MixtureModel, finished_mixture, group_scores, member_margins
from rlhf_jax.cli.users import units_of
from rlhf_jax.envs import shop
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.labs.shop import SPLITS, shop_lab, shop_task
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.ops.kl import k3
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Penalty,
    Task,
    adamw_cosine,
    grouped_reward,
    grpo,
    measure,
    online,
    paired_win_rate,
    prompt_rows,
    stage_key,
    task_reward,
    worst_group_scores,
)
from rlhf_jax.recipes.lab import CHUNK
from rlhf_jax.recipes.mixtures import mixture_model, mixture_rows
from rlhf_jax.recipes.rows import answer_batch, in_chunks
from rlhf_jax.recipes.users import EmbeddedPairs
from rlhf_jax.recipes.vectors import vectors_of
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Params

WANTED = [0, -1]  # practical, the majority here, and talkative, of `shop.GROUPS`
GROUPS = {"one reward": 1, "MaxMin": 2}  # policy -> groups of the mixture that it serves
TRAINED = (*GROUPS, "SFT drawn again")  # the last one wins half of the time


class Place(NamedTuple):
    """world: its seed. sft: params of the policy."""

    world: int
    sizes: ShopPanel
    lab: LanguageLab
    task: Task
    sft: Params


def open_place(config: Config, job: Run) -> Place:
    """The shipped policy and its prompts."""
    lab = shop_lab(Size(), job.out / "data", seed=config.seed)
    return Place(config.seed, config.shop, lab, shop_task(config.seed), shipped(lab, "sft"))


def user_groups(sizes: ShopPanel) -> np.ndarray:
    """[H] the group of each user: 0, and 1 for the last `minority` of them."""
    return (np.arange(sizes.users) >= sizes.users - sizes.minority).astype(int)


def utilities(world: int, numbers: Sequence[int], texts: Sequence[Sequence[str]]) -> np.ndarray:
    """[N, K, 2] what answers are worth to both groups."""
    prompts = [shop.make_prompt(world, int(number)) for number in numbers]
    rows = zip(prompts, texts, strict=True)
    axes = [[shop.score(prompt, text).vector() for text in each] for prompt, each in rows]
    return shop.group_utilities(axes)[..., WANTED]


def answer_pool(place: Place) -> dict[str, np.ndarray]:
    """Two answers of SFT to each prompt: their vectors [N, 2, d] and utilities [N, 2, 2], without
    the prompts that got an empty answer."""
    numbers = np.array(SPLITS["pairs"][: place.sizes.pairs])
    key = stage_key(place.lab, "pool")
    texts = measure(place.lab, place.task, place.sft, place.sft, numbers, key, samples=2).texts
    flat = [text for both in texts for text in both]
    vectors = answer_vectors(place, np.repeat(numbers, 2), flat).reshape(len(numbers), 2, -1)
    worth = utilities(place.world, numbers.tolist(), texts)
    written = np.isfinite(vectors).all((1, 2))
    return {"vectors": vectors[written], "utilities": worth[written]}


def answer_vectors(place: Place, numbers: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """[N, d] of answers by SFT; NaN for an answer without words, which has none."""

    def embed(part: list[dict]) -> jax.Array:
        return vectors_of(place.lab, place.sft, answer_batch(place.lab, part))

    written = np.array([bool(text.strip()) for text in texts])
    prompts = place.task.texts(numbers)
    rows = [{"prompt": a, "answer": b} for a, b in zip(prompts, texts, strict=True) if b.strip()]
    vectors = in_chunks(embed, rows, size=CHUNK)
    found = np.full((len(texts), vectors.shape[-1]), np.nan, np.float32)
    found[written] = vectors
    return found


def user_pairs(place: Place, pool: Mapping[str, np.ndarray], seed: int) -> EmbeddedPairs:
    """The pool dealt round the users, who label by Bradley-Terry; near ties are left out."""
    sizes = place.sizes
    key = stage_key(place.lab, f"users {seed}")
    order = np.random.default_rng((place.world, seed)).permutation(len(pool["vectors"]))
    users = np.arange(len(order)) % sizes.users
    groups = user_groups(sizes)[users]
    own = pool["utilities"][order, :, groups]
    winners = np.asarray(bt_labels(key, jnp.asarray(own, jnp.float32), beta=sizes.teacher_beta))
    kept = np.abs(own[:, 0] - own[:, 1]) > sizes.tie_gap
    sides = np.stack([winners, 1 - winners], axis=-1)[..., None]
    vectors = np.take_along_axis(pool["vectors"][order], sides, axis=1)
    return EmbeddedPairs(vectors[kept], tuple(users[kept].tolist()))


# ---- Rewards, policies, win rates.


def shop_study(config: Config, job: Run) -> dict[str, np.ndarray]:
    """win rates: [S, 3, 2] of TRAINED over SFT by the true utility of both groups. recall: [S, 2],
    users of both groups that the mixture puts together. accuracy: [S, 2] on held-out pairs of one
    reward, and of the mixture with each user's own group."""
    place = open_place(config, job)
    pool = run_stage(job, "shop pool", lambda _: (answer_pool(place), {})).arrays
    base = run_stage(job, "shop SFT", lambda _: (base_values(place), {})).arrays
    found = [seed_study(place, job, pool, base, seed) for seed in range(config.shop.seeds)]
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def seed_study(
    place: Place,
    job: Run,
    pool: Mapping[str, np.ndarray],
    base: Mapping[str, np.ndarray],
    seed: int,
) -> dict[str, np.ndarray]:
    """The same for the users, labels and trainings of one seed."""
    pairs = user_pairs(place, pool, seed)
    cut = len(pairs.users) * 3 // 4
    train, held = (
        EmbeddedPairs(pairs.vectors[x], pairs.users[x]) for x in (slice(cut), slice(cut, None))
    )
    units, rewards, values = units_of(train), {}, []
    for name in GROUPS:
        work = partial(fit_rewards, place, units.of(train), GROUPS[name])
        params = MixtureParams(**run_stage(job, f"shop rewards of {name} {seed}", work).arrays)
        rewards[name] = finished_mixture(units, units.of(train), params, hard=False)
        work = partial(fit_policy, place, rewards[name])
        values.append(run_stage(job, f"shop {name} {seed}", work).arrays["values"])
    rates = [
        [paired_win_rate(x[..., u], base["SFT"][..., u])[0] for u in (0, 1)]
        for x in (*values, base["again"])
    ]
    mixture = rewards["MaxMin"]
    truth = user_groups(place.sizes)[np.array(mixture.users, int)]
    recall, _ = group_recall(jnp.asarray(mixture.members), jnp.asarray(truth))
    margins = [member_margins(rewards[name], units.of(held))[1][:, 0] for name in GROUPS]
    accuracy = np.mean(np.array(margins) > 0, axis=-1)
    return {"win rates": np.array(rates), "recall": np.asarray(recall), "accuracy": accuracy}


def fit_rewards(place: Place, train: EmbeddedPairs, groups: int, stage: Stage) -> tuple[dict, dict]:
    """`MixtureParams` of a reward for each of so many groups, with restarts."""
    sizes, key = place.sizes, stage_key(place.lab, stage.name)
    reward = linear_reward(train.vectors.shape[-1])
    rows = mixture_rows(train, limit=sizes.pairs, batch_size=sizes.users, seed=place.lab.seed)
    first = init_restarts(key, reward, groups=groups, restarts=sizes.restarts)
    fit = Fit(adamw_cosine(sizes.reward_rate, sizes.reward_steps), sizes.reward_steps)
    return mixture_model(stage, place.lab, reward, rows, first, fit)._asdict(), {}


def group_task(place: Place, model: MixtureModel) -> Task:
    """Answers by the reward of each group, in its zero and unit over the answers of SFT."""
    names = [f"group {i}" for i in range(len(model.weights))]

    def score(numbers: np.ndarray, texts: Sequence[str]) -> dict[str, Any]:
        found = group_scores(model, answer_vectors(place, numbers, texts))
        return dict(zip(names, found.T, strict=True))

    return place.task._replace(score=score, objective=dict.fromkeys(names, 1.0))


def fit_policy(
    place: Place, model: MixtureModel, stage: Stage
) -> tuple[dict[str, np.ndarray], dict]:
    """GRPO from SFT, which is also the reference, on one reward or on the worst group's; the
    utilities of the policy's held-out answers."""
    sizes, lab, task = place.sizes, place.lab, group_task(place, model)
    alone = len(model.weights) == 1
    reward = task_reward(lab, task) if alone else grouped_reward(lab, task, worst_group_scores)
    method = grpo(lab, samples=sizes.samples, kl=Penalty(sizes.kl, k3))
    fit = Fit(adamw_cosine(sizes.rl_rate, sizes.rl_steps), sizes.rl_steps)
    rows = prompt_rows(task, batch_size=sizes.batch_size, seed=lab.seed)
    key = stage_key(lab, stage.name)
    params = online(stage, lab, task, method, reward, place.sft, rows, fit, key=key)
    return {"values": answer_values(place, params, "trained")}, {}


def answer_values(place: Place, params: Params, name: str) -> np.ndarray:
    """[N, 2, 2] utilities of two answers to each held-out prompt; each name draws its own."""
    numbers, key = np.array(SPLITS["heldout"][: place.sizes.prompts]), stage_key(place.lab, name)
    found = measure(place.lab, place.task, params, place.sft, numbers, key, samples=2)
    return utilities(place.world, numbers.tolist(), found.texts)


def base_values(place: Place) -> dict[str, np.ndarray]:
    """`answer_values` of SFT, twice; the second time as those of trained policies are drawn."""
    names = {"SFT": "SFT", "again": "trained"}
    return {side: answer_values(place, place.sft, name) for side, name in names.items()}
