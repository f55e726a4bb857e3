"""K principles on Gaussian answers: which criterion does a reward learn from feedback on one each?

Principle k holds for an answer x with probability sigmoid(u_k . x), |u_k| = `scale`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.rlbff.config import Config
from experiments.rlbff.fits import (
    area_under_curve,
    fit_blind,
    fit_heads,
    fit_pairs,
    verdict_calibration,
)
from rlhf_jax.ops.ensembles import mean_scores, worst_case_scores
from rlhf_jax.ops.entailment import scores_under
from rlhf_jax.ops.statistics import best_of_n_curve, wins

MODELS = ("entailment", "Bradley-Terry", "principle-blind")
BEST = (*MODELS, "another principle", "oracle")
SIZES = (1, 2, 4, 8, 16)
CONSENSUS = ("1 of 3", "2 of 3", "3 of 3", "as many as 2 of 3", "as many as 3 of 3")
TOGETHER = ("minimum of entailment", "mean of entailment", "Bradley-Terry")


class Feedback(NamedTuple):
    """x: [N, d] answers. principles: [N] what each is judged by. labels: [N] yes."""

    x: Float[Array, "N d"]
    principles: Int[Array, " N"]
    labels: Bool[Array, " N"]


def directions(key: Key[Array, ""], config: Config) -> Float[Array, "K d"]:
    """u_k, uniform on the sphere of radius `scale`."""
    u = jax.random.normal(key, (config.principles, config.features))
    return config.scale * u / jnp.linalg.norm(u, axis=-1, keepdims=True)


def draw_feedback(
    key: Key[Array, ""], u: Float[Array, "K d"], config: Config, count: int
) -> Feedback:
    """Items, each about one principle drawn at random."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (count, config.features))
    k = jax.random.randint(keys[1], (count,), 0, len(u))
    return Feedback(x, k, jax.random.bernoulli(keys[2], jax.nn.sigmoid(jnp.sum(u[k] * x, -1))))


def draw_pairs(
    key: Key[Array, ""], u: Float[Array, "K d"], config: Config, count: int
) -> tuple[Float[Array, "N d"], Float[Array, "N d"]]:
    """Chosen and rejected answers, by a principle that is drawn for each pair and not told."""
    keys = jax.random.split(key, 3)
    both = jax.random.normal(keys[0], (2, count, config.features))
    k = jax.random.randint(keys[1], (count,), 0, len(u))
    prefs = jax.nn.sigmoid(jnp.sum(u[k] * (both[0] - both[1]), -1))
    first = jax.random.bernoulli(keys[2], prefs)[:, None]
    return jnp.where(first, both[0], both[1]), jnp.where(first, both[1], both[0])


def one_seed(key: Key[Array, ""], config: Config) -> dict[str, Array]:
    """Accuracies, calibration and best-of-n of the three models, fitted to as many items each."""
    keys = jax.random.split(key, 6)
    u = directions(keys[0], config)
    items = draw_feedback(keys[1], u, config, config.items)
    heads = fit_heads(config, *items)
    pairs = fit_pairs(config, *draw_pairs(keys[2], u, config, config.items))
    blind = fit_blind(config, items.x, items.labels)
    flat = [jnp.broadcast_to(w, u.shape) for w in (pairs, blind)]
    gaps = -jnp.subtract(*jax.random.normal(keys[3], (2, config.test, config.features)))
    test = draw_feedback(keys[4], u, config, config.test)

    def measured(w: Array) -> dict[str, Array]:
        scores = scores_under(w @ test.x.T, test.principles)
        error, bins = verdict_calibration(scores, test.labels)
        return {
            "accuracy": jnp.mean(agree(w @ gaps.T, u @ gaps.T)),
            "average": jnp.mean(agree(w.mean(0) @ gaps.T, u.mean(0) @ gaps.T)),
            "error": error,
            "bins": bins,
        }

    models = jnp.stack([heads, *flat, jnp.roll(heads, 1, 0), u])
    each = jax.lax.map(measured, models)
    found = {f"{key}/{name}": x[i] for key, x in each.items() for i, name in enumerate(BEST)}
    return found | chosen_principle(keys[5], u, models, config)


def agree(scores: Float[Array, "*B"], true: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """1 where both have one sign, 1/2 where the score is 0."""
    return wins(scores * jnp.sign(true), jnp.zeros_like(scores))


def chosen_principle(
    key: Key[Array, ""],
    u: Float[Array, "K d"],
    models: Float[Array, "M K d"],
    config: Config,
) -> dict[str, Array]:
    """Gold u_k . x of the best of n answers, by every model, for one k or for several at once."""
    pool = jax.random.normal(key, (config.prompts, config.pool, config.features))
    gold = jnp.einsum("kd,pnd->kpn", u, pool)
    scores = jnp.einsum("mkd,pnd->mkpn", models, pool)
    least = worst_case_scores(gold[: config.chosen])
    several = scores[0, : config.chosen]
    by = jnp.stack([worst_case_scores(several), mean_scores(several), scores[1, 0]])
    proxies = jnp.concatenate([scores.reshape(-1, *gold.shape[1:]), by])
    true = jnp.concatenate(
        [
            jnp.broadcast_to(gold, scores.shape).reshape(-1, *gold.shape[1:]),
            jnp.broadcast_to(least, by.shape),
        ]
    )
    curves = best_of_n_curve(proxies, true, jnp.asarray(SIZES)).mean(1)
    single, together = curves[: -len(TOGETHER)], curves[-len(TOGETHER) :]
    single = single.reshape(len(models), len(u), -1).mean(1)
    return {f"best/{name}": single[i] for i, name in enumerate(BEST)} | {
        f"together/{name}": together[i] for i, name in enumerate(TOGETHER)
    }


def consensus_seed(key: Key[Array, ""], config: Config) -> dict[str, Array]:
    """Three annotators judge an answer by one principle and name it, a share of them wrongly."""
    keys = jax.random.split(key, 6)
    u, answers = directions(keys[0], config), config.items // 3
    x = jax.random.normal(keys[1], (answers, config.features))
    k = jax.random.randint(keys[2], (answers,), 0, config.principles)
    follows = jax.nn.sigmoid(jnp.sum(u[k] * x, -1))[:, None]
    labels = jax.random.bernoulli(keys[3], jnp.broadcast_to(follows, (answers, 3)))
    wrong, shift, order = jax.random.split(keys[4], 3)
    moved = jax.random.bernoulli(wrong, config.wrong, (answers, 3))
    away = jax.random.randint(shift, (answers, 3), 1, config.principles)
    named = jnp.where(moved, (k[:, None] + away) % config.principles, k[:, None])
    count = jnp.sum(named[:, :, None] == named[:, None, :], -1).ravel()
    rank = jnp.argsort(jax.random.permutation(order, count.size))
    kept = [count >= m for m in (1, 2, 3)]
    kept += [rank < jnp.sum(mask) for mask in kept[1:]]
    gaps = jax.random.normal(keys[5], (config.test, config.features))
    given = jnp.repeat(x, 3, 0), named.ravel(), labels.ravel()
    right = (~moved).ravel()

    def study(mask: Array) -> tuple[Array, Array, Array]:
        weights = mask.astype(jnp.float32)
        heads = fit_heads(config, *given, weights)
        accuracy = jnp.mean(agree(heads @ gaps.T, u @ gaps.T))
        return accuracy, weights.sum(), (weights * right).sum() / weights.sum()

    accuracy, size, precision = jax.lax.map(study, jnp.stack(kept))
    return {"accuracy": accuracy, "kept": size, "right": precision}


def offset_seed(key: Key[Array, ""], config: Config) -> dict[str, Array]:
    """One principle, and prompts of different ease: are scores of different prompts comparable?

    Returns:
      Scores of the test answers by each model, and their labels.
    """
    keys, sizes = jax.random.split(key, 5), config.offsets
    u = directions(keys[0], config)[0]
    ease = sizes.spread * jax.random.normal(keys[1], (sizes.prompts,))

    def draw(key: Array, count: int) -> tuple[Array, Array, Array]:
        inner = jax.random.split(key, 3)
        x = jax.random.normal(inner[0], (count, config.features))
        prompt = jax.random.randint(inner[1], (count,), 0, sizes.prompts)
        labels = jax.random.bernoulli(inner[2], jax.nn.sigmoid(x @ u + ease[prompt]))
        return x, jnp.concatenate([x, jax.nn.one_hot(prompt, sizes.prompts)], -1), labels

    (x, told, labels), (test, test_told, truth) = (
        draw(key, count) for key, count in ((keys[2], config.items), (keys[3], config.test))
    )
    pairs = fit_pairs(config, *draw_pairs(keys[4], u[None], config, config.items))
    scores = {
        "entailment": test_told @ fit_blind(config, told, labels),
        "Bradley-Terry": test @ pairs,
        "prompt-blind": test @ fit_blind(config, x, labels),
    }
    found = {f"scores/{name}": each for name, each in scores.items()} | {"labels": truth}
    return found | {
        f"error/{name}": verdict_calibration(each, truth)[0] for name, each in scores.items()
    }


def seeds(config: Config, number: int) -> Key[Array, "S"]:
    """One key for each seed, of this panel."""
    return jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), number), config.num_seeds
    )


def principle_study(config: Config) -> dict[str, np.ndarray]:
    """Numbers of `one_seed`, [S, ...]."""
    return on_host(jax.jit(jax.vmap(partial(one_seed, config=config)))(seeds(config, 0)))


def consensus_study(config: Config) -> dict[str, np.ndarray]:
    """Numbers of `consensus_seed`, [S, CONSENSUS]."""
    return on_host(jax.jit(jax.vmap(partial(consensus_seed, config=config)))(seeds(config, 1)))


def offset_study(config: Config) -> dict[str, np.ndarray]:
    """Areas under the curve and calibration errors, [S]."""
    found = on_host(jax.jit(jax.vmap(partial(offset_seed, config=config)))(seeds(config, 2)))
    labels = found.pop("labels")
    areas = {
        name.replace("scores", "area"): np.array(
            [area_under_curve(*row) for row in zip(found.pop(name), labels, strict=True)]
        )
        for name in list(found)
        if name.startswith("scores/")
    }
    return found | areas


def on_host(found: dict[str, Array]) -> dict[str, np.ndarray]:
    """As NumPy."""
    return {name: np.asarray(each) for name, each in found.items()}
