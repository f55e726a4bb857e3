"""A small transformer whose adapter alone is trained, or all of it, by three losses.

An answer is seven words and an end; good words less bad words are its quality, and the end may be a
mark, which is of no worth. The model has been trained before on older pairs, whose labels follow
quality and the mark alike: its trunk shows both. Then it is trained on pairs in which the mark goes
with the label, in two environments.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from experiments.causal_survey.config import Adapted, Config
from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.robust_reward import make_update
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.losses.robust_reward import vrex_loss
from rlhf_jax.models import LoRAConfig, TransformerConfig, make_lora, make_reward_model
from rlhf_jax.policies.language import language_reward, language_trajectory
from rlhf_jax.types import PreferenceBatch, RewardFn

PROMPT, PLAIN, GOOD, BAD, END, MARK = 1, (2, 3), (4, 5), (6, 7), 8, 9
WORDS = 7
SHIFTED, SAME = -0.9, "same"  # correlation of the mark with the label in the tests
LOSSES = ("ERM", "V-REx", "copies")
PARTS = ("adapter", "all weights")
TESTS = ("as trained", "mark at random", "mark reversed")


class Texts(NamedTuple):
    """ids: [N, 2, 8] of the chosen and of the other answer. environments: [N]."""

    ids: Int[Array, "N 2 8"]
    environments: Int[Array, "N"]


def draw_texts(key: Array, rhos: Sequence[float], count: int) -> Texts:
    """`count` pairs, as many of each environment; the label follows quality alone."""
    keys = jax.random.split(key, 3)
    words = jax.random.randint(keys[0], (count, 2, WORDS), PLAIN[0], BAD[-1] + 1)
    worth = quality(words)
    first = jax.random.uniform(keys[1], (count,)) < jax.nn.sigmoid(worth[:, 0] - worth[:, 1])
    words = jnp.where(first[:, None, None], words, words[:, ::-1])
    environments = jnp.arange(count) % len(rhos)
    rho = jnp.asarray(rhos)[environments]
    shares = 0.5 * jnp.stack([1 + rho, 1 - rho], axis=1)
    return Texts(ended(words, jax.random.uniform(keys[2], (count, 2)) < shares), environments)


def quality(words: Int[Array, "*B T"]) -> Float[Array, "*B"]:
    """Good words less bad ones."""
    good, bad = (jnp.isin(words, jnp.asarray(each)).sum(-1) for each in (GOOD, BAD))
    return (good - bad).astype(jnp.float32)


def ended(words: Int[Array, "*B T"], marked: Array) -> Int[Array, "*B S"]:
    """The words and an end, or the mark in its place."""
    return jnp.concatenate([words, jnp.where(marked, MARK, END)[..., None]], axis=-1)


def turned(ids: Int[Array, "*B S"]) -> Int[Array, "*B S"]:
    """The copy with a mark where there was none, and none where there was one."""
    return ended(ids[..., :WORDS], ids[..., WORDS] == END)


def batch_of(ids: Int[Array, "*B 2 S"], environments: Array | None = None) -> PreferenceBatch:
    """Pairs of texts behind one prompt."""
    sides = []
    for side in (0, 1):
        answer = ids[..., side, :]
        # From the ids: XLA would fold whole rows of constants while it compiles.
        whole = answer > 0
        prompt = PROMPT * whole[..., :1]
        sides.append(language_trajectory(prompt, whole[..., :1], answer, whole))
    columns = None if environments is None else {"environments": environments}
    return PreferenceBatch(sides[0], sides[1], columns=columns)


def study(config: Config) -> dict[str, np.ndarray]:
    """right: [S, PARTS, LOSSES, TESTS] accuracy. before: [S, TESTS] of the older model."""
    keys = jax.random.split(jax.random.key(config.seed + 2), config.adapted.num_seeds)
    one = jax.jit(jax.vmap(partial(study_seed, config.adapted)))
    return jax.tree.map(np.asarray, one(keys))


def study_seed(sizes: Adapted, key: Array) -> dict[str, Array]:
    """One world: an older model, and what every loss makes of it."""
    keys = jax.random.split(key, 5)
    model = make_reward_model(
        TransformerConfig(
            vocab_size=MARK + 1,
            d_model=sizes.width,
            num_layers=sizes.layers,
            num_heads=2,
            num_kv_heads=2,
            head_dim=sizes.width // 2,
            d_ff=2 * sizes.width,
        )
    )
    whole = language_reward(model)
    older = older_model(sizes, whole, keys[0], keys[1])
    base = {**older, "head": whole.init(keys[2])["head"]}
    lora = make_lora(
        LoRAConfig(
            rank=sizes.rank,
            alpha=2 * sizes.rank,
            targets=("trunk/*attention*", "trunk/*mlp*"),
            trained=("head/*",),
        ),
        model.axes(),
    )
    small = RewardFn(
        lambda key: lora.init(key, base),
        lambda adapter, answers: whole.scores(lora.merge(base, adapter), answers),
    )
    train = draw_texts(keys[3], sizes.rhos, sizes.pairs)
    tests = jnp.stack(
        [
            draw_texts(jax.random.fold_in(keys[4], i), rhos, sizes.tests).ids
            for i, rhos in enumerate((sizes.rhos, (0.0,), (SHIFTED,)))
        ]
    )
    parts = (
        (small, small.init(keys[2]), sizes.adapter_rate),
        (whole, base, sizes.rate),
    )
    right = []
    for reward, first, rate in parts:
        # One program for all losses.
        fitted = jax.vmap(partial(fit, sizes, reward, first, train, rate))(losses(sizes))
        right.append(jax.vmap(lambda params, of=reward: accuracies(of, params, tests))(fitted))
    return {"right": jnp.stack(right), "before": accuracies(whole, older, tests)}


def older_model(sizes: Adapted, reward: RewardFn, key: Array, init_key: Array) -> Any:
    """A reward model of people who like the mark as much as two good words."""
    drawn = draw_texts(key, (0.0,), sizes.pairs)
    liked = quality(drawn.ids[..., :WORDS]) + 2.0 * (drawn.ids[..., WORDS] == MARK)
    ahead = liked[:, 0] >= liked[:, 1]
    ids = jnp.where(ahead[:, None, None], drawn.ids, drawn.ids[:, ::-1])
    adam = optax.adam(sizes.rate)
    update = reward_model.make_update(reward, adam)
    state = init_state(reward.init(init_key), adam)
    return trained(sizes, update, state, sizes.pretrain_steps, lambda rows: batch_of(ids[rows]))


class Loss(NamedTuple):
    """penalty: of V-REx, 0 for the mean over environments. copied: whether copies are read."""

    penalty: Array
    copied: Array


def losses(sizes: Adapted) -> Loss:
    """Those of LOSSES, along the first axis."""
    return Loss(jnp.array([0.0, sizes.vrex, 0.0]), jnp.array([False, False, True]))


def fit(sizes: Adapted, reward: RewardFn, first: Any, train: Texts, rate: float, loss: Loss) -> Any:
    """Params after `steps` updates by a loss."""
    adam = optax.adam(rate)
    update = make_update(reward, adam, risk=partial(risk_of_copies, loss=loss))
    both = jnp.stack([train.ids, turned(train.ids)], axis=1)
    places = jnp.stack([train.environments] * 2, axis=1)
    state = init_state(first, adam)
    return trained(sizes, update, state, sizes.steps, lambda i: batch_of(both[i], places[i]))


def risk_of_copies(
    chosen: Array, rejected: Array, mask: Array, *, environments: Array, loss: Loss
) -> Float[Array, ""]:
    """Of pairs [B, 2], each with its copy: the mean of both, or V-REx of the pairs as they are."""
    each = bradley_terry_loss(chosen, rejected)
    own = (x[:, 0] for x in (each, environments, mask))
    return jnp.where(loss.copied, jnp.mean(each), vrex_loss(*own, count=2, penalty=loss.penalty))


def trained(sizes: Adapted, update: Any, state: Any, steps: int, take: Any) -> Any:
    """Params after so many steps, each on the next rows."""

    def step(state, i):
        rows = (i * sizes.batch_size + jnp.arange(sizes.batch_size)) % sizes.pairs
        return update(state, take(rows))[0], None

    return jax.lax.scan(step, state, jnp.arange(steps))[0].params


def accuracies(reward: RewardFn, params: Any, tests: Int[Array, "3 N 2 8"]) -> Float[Array, "3"]:
    """Of TESTS."""
    batch = batch_of(tests)
    scores = [reward.scores(params, side) for side in (batch.chosen, batch.rejected)]
    return jnp.mean(scores[0] > scores[1], axis=-1)
