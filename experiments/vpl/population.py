"""Users who want different things, what they are asked and what they answer."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from experiments.vpl.config import Config
from rlhf_jax.algos.user_reward import UserContext
from rlhf_jax.feedback.populations import user_values
from rlhf_jax.feedback.teachers import bt_labels

GROUPS = 4  # rows of utilities; two kinds of users fill two rows each
TWO, FOUR = (0, 1, 0, 1), (0, 1, 2, 3)  # the kind of user of each row


class Asked(NamedTuple):
    """groups: [U] row of each user. chosen, rejected: [U, N, d] by the user's noisy answer. gaps:
    [U, N] utility of the chosen item over the rejected one, negative where the answer is noise."""

    groups: Int[Array, " U"]
    chosen: Float[Array, "U N d"]
    rejected: Float[Array, "U N d"]
    gaps: Float[Array, "U N"]


def opposite_users(key: Key[Array, ""], config: Config, *, scale: float = 1.0) -> Array:
    """[4, d] utilities u, -scale u, u, -scale u, with |u| = 1."""
    u = unit(jax.random.normal(key, (config.features,)))
    return jnp.stack([u, -scale * u, u, -scale * u])


def random_users(key: Key[Array, ""], config: Config) -> Array:
    """[4, d] utilities of norm 1 in random directions."""
    return unit(jax.random.normal(key, (GROUPS, config.features)))


def unit(x: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
    """x / |x|."""
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@partial(jax.jit, static_argnames=("users", "pairs", "config"))
def ask(
    key: Key[Array, ""], users: int, pairs: int, *, weights: Float[Array, "4 d"], config: Config
) -> Asked:
    """Random users about random items, N(0, I)."""
    group_key, item_key, answer_key = jax.random.split(key, 3)
    groups = jax.random.randint(group_key, (users,), 0, GROUPS)
    items = jax.random.normal(item_key, (users, pairs, 2, config.features))
    return answer(answer_key, groups, items, weights=weights, config=config)


def answer(
    key: Key[Array, ""],
    groups: Int[Array, " U"],
    items: Float[Array, "U N 2 d"],
    *,
    weights: Float[Array, "4 d"],
    config: Config,
) -> Asked:
    """What users of these groups say about these items."""
    each = jnp.broadcast_to(groups[:, None], items.shape[:2])
    values = config.rationality * user_values(items, weights, each)
    return sorted_pairs(key, groups, items, values)


def sorted_pairs(
    key: Key[Array, ""],
    groups: Int[Array, " U"],
    items: Float[Array, "U N 2 d"],
    values: Float[Array, "U N 2"],
) -> Asked:
    """Bradley-Terry answers to pairs with these values, the preferred item first."""
    labels = bt_labels(key, values, beta=1.0)[..., None]
    chosen, rejected = (
        jnp.take_along_axis(items, x[..., None], axis=2)[:, :, 0] for x in (labels, 1 - labels)
    )
    won, lost = (jnp.take_along_axis(values, x, axis=2)[..., 0] for x in (labels, 1 - labels))
    return Asked(groups, chosen, rejected, won - lost)


def shown(asked: Asked, size: int | Int[Array, ""], among: int) -> UserContext:
    """The first `among` comparisons of each user, of which the encoder sees the first `size`."""
    first = asked.chosen[:, :among], asked.rejected[:, :among]
    return UserContext(*first, jnp.broadcast_to(jnp.arange(among) < size, first[0].shape[:2]))


class Drawn(NamedTuple):
    """Users of a run. train: [steps, batch, N], fresh ones for each step. noise: [steps, batch, k]
    of their latents. test, test_noise: [U, N] and [U, k]."""

    train: Asked
    noise: Float[Array, "S B k"]
    test: Asked
    test_noise: Float[Array, "U k"]


def drawn(key: Key[Array, ""], asked: Asked, config: Config) -> Drawn:
    """The users asked, split into those of the steps and `test_users`.

    All are drawn before the training: a program that also draws takes far longer to compile.
    """
    size = config.steps * config.batch
    noise = jax.random.normal(key, (size + config.test_users, config.latent_dim))

    def steps(x):
        return x[:size].reshape(config.steps, config.batch, *x.shape[1:])

    trained = Asked(*(steps(x) for x in asked))
    pairs = config.context + config.targets
    train = Asked(trained.groups, *(x[:, :, :pairs] for x in trained[1:]))
    pairs = config.context + config.test_pairs
    test = Asked(asked.groups[size:], *(x[size:, :pairs] for x in asked[1:]))
    return Drawn(train, steps(noise), test, noise[size:])


def how_many(config: Config) -> dict[str, int]:
    """Users of a run, and comparisons of each."""
    users = config.steps * config.batch + config.test_users
    return {"users": users, "pairs": config.context + max(config.targets, config.test_pairs)}
