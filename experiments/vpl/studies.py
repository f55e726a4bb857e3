"""Stages of vpl: two kinds of users, four, the sweep of beta, users of different scales."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from experiments.vpl.config import Config
from experiments.vpl.learners import (
    Networks,
    accuracy,
    curve,
    first_params,
    fit_given,
    fit_vpl,
    given,
    identified,
    networks,
    unseen,
)
from experiments.vpl.population import (
    FOUR,
    GROUPS,
    TWO,
    Asked,
    Drawn,
    answer,
    ask,
    drawn,
    how_many,
    opposite_users,
    random_users,
    shown,
)
from rlhf_jax.algos.user_reward import UserContext, UserParams, posterior_of
from rlhf_jax.feedback.queries import (
    mixture_information,
    mutual_information,
    random_scores,
    variance_information,
)
from rlhf_jax.ops.games import score_win_rates
from rlhf_jax.ops.gaussians import gaussian_draws
from rlhf_jax.types import Params

RULES = ("random sets", "code's rule", "mixture entropy", "mutual information")
SCATTER = 200  # users in the picture of the latents
RANGED, ITEMS, BINS = 40, 500, 10  # users, items and bins of the picture of the scales


@partial(jax.jit, static_argnames="config")
def measured(
    config: Config, params: UserParams, users: Drawn, kinds: Int[Array, " 4"]
) -> dict[str, Array]:
    """Accuracy by comparisons shown, identification (by posterior means and by draws), and latents
    of some users."""
    by_size, posterior = curve(config, networks(config), params, users.test)
    of = kinds[users.test.groups]
    return {
        "vpl": by_size,
        "identified": identified(posterior.means, of, GROUPS),
        "identified by a draw": identified(
            gaussian_draws(*posterior, users.test_noise), of, GROUPS
        ),
        "latents": posterior.means[:SCATTER],
        "kinds": of[:SCATTER],
    }


@partial(jax.jit, static_argnames="config")
def baseline_accuracy(
    config: Config, reward: Params, users: Drawn, codes: Float[Array, "4 k"]
) -> Float[Array, ""]:
    """The same, of a reward whose latents were given; the same users and comparisons."""
    test = unseen(config, users.test)
    return accuracy(networks(config), reward, test, codes[test.groups])


def keys_of(config: Config, number: int) -> list[Array]:
    """Four keys of a population: who there is, its users, the networks, the rest."""
    return list(jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number), 4))


def users_of(config: Config, key: Key[Array, ""], weights: Float[Array, "4 d"]) -> Drawn:
    """All users of a population, from the key of its users."""
    ask_key, noise_key = jax.random.split(key)
    asked = ask(ask_key, **how_many(config), weights=weights, config=config)
    return drawn(noise_key, asked, config)


def stacked(rows: list[dict]) -> dict[str, np.ndarray]:
    """Arrays with the seeds first."""
    return {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}


def two_users(config: Config) -> dict[str, np.ndarray]:
    """u and -u: VPL, Bradley-Terry, an oracle, and queries."""
    return stacked([population(config, seed, opposite_users, TWO) for seed in seeds(config)])


def four_users(config: Config) -> dict[str, np.ndarray]:
    """Four random directions."""
    return stacked([population(config, seed, random_users, FOUR) for seed in seeds(config)])


def seeds(config: Config) -> range:
    return range(config.num_seeds)


def population(config: Config, seed: int, draw, kinds: tuple[int, ...]) -> dict[str, Array]:
    """One population: three models and what they reach."""
    who, people, start, rest = keys_of(config, seed)
    weights, k = draw(who, config), config.latent_dim
    users, first = users_of(config, people, weights), first_params(config, start)
    params, curves = fit_vpl(config, first, users, beta=jnp.asarray(config.beta))
    found = measured(config, params, users, jnp.asarray(kinds))
    codes = {"no latent": jnp.zeros((GROUPS, k)), "oracle": jnp.eye(GROUPS, k)}
    for name, code in codes.items():
        reward = fit_given(config, first, users, codes=code)
        found[name] = baseline_accuracy(config, reward, users, code)
    return found | {"training": curves["fit"]} | active(config, rest, params, users, weights)


def sweep(config: Config) -> dict[str, np.ndarray]:
    """[seeds, betas]: accuracy, identification, and the KL of the posterior at the end."""
    rows = []
    for seed in range(config.sweep_seeds):
        who, people, start, _ = keys_of(config, seed)
        users = users_of(config, people, opposite_users(who, config))
        first, each = first_params(config, start), []
        for beta in config.betas:
            params, curves = fit_vpl(config, first, users, beta=jnp.asarray(beta))
            found = measured(config, params, users, jnp.asarray(TWO))
            last = {"kl": curves["kl"][-min(50, config.steps) :].mean()}
            names = ("identified", "identified by a draw")
            each.append({"vpl": found["vpl"][-1]} | {name: found[name] for name in names} | last)
        rows.append(stacked(each))
    return stacked(rows)


# ---- Which comparisons to ask for.


def active(
    config: Config,
    key: Key[Array, ""],
    params: UserParams,
    users: Drawn,
    weights: Float[Array, "4 d"],
) -> dict[str, Array]:
    """Accuracy after one of the best sets of queries by each rule, [rules, asked]."""
    item_key, rule_key, user_key = jax.random.split(key, 3)
    items = jax.random.normal(item_key, (config.sets, max(config.asked), 2, config.features))
    found = [
        served(config, (rule_key, user_key), params, users, weights, items[:, :size])
        for size in config.asked
    ]
    return {"active": jnp.stack(found, axis=1)}


@partial(jax.jit, static_argnames="config")
def served(
    config: Config,
    keys: tuple[Key[Array, ""], Key[Array, ""]],
    params: UserParams,
    users: Drawn,
    weights: Float[Array, "4 d"],
    items: Float[Array, "S n 2 d"],
) -> Float[Array, " rules"]:
    """Each user answers one of the `kept` best sets of queries, the same ones for everybody."""
    nets, size, test = networks(config), items.shape[1], unseen(config, users.test)
    scores = set_scores(config, nets, keys[0], params, users, items)
    turns = jnp.arange(config.test_users) % config.kept

    def one(scores):
        best = items[jax.lax.top_k(scores, config.kept)[1]]
        said = answer(keys[1], test.groups, best[turns], weights=weights, config=config)
        context = shown(said, size, size)
        means = posterior_of(nets.encoder, params, context).means
        return accuracy(nets, params.reward, test, means)

    return jax.vmap(one)(jnp.stack([scores[rule] for rule in RULES]))


def set_scores(
    config: Config,
    nets: Networks,
    key: Key[Array, ""],
    params: UserParams,
    users: Drawn,
    items: Float[Array, "S n 2 d"],
) -> dict[str, Float[Array, " S"]]:
    """Every rule's score of every set, from what the model believes alone."""
    size = items.shape[1]
    labels = (jnp.arange(2**size)[:, None] >> jnp.arange(size)) & 1  # [L, n], every answer
    turned = jnp.where(labels[:, None, :, None, None] == 1, items[:, :, ::-1], items)
    chosen, rejected = turned[..., 0, :], turned[..., 1, :]  # [L, S, n, d]
    context = UserContext(chosen, rejected, jnp.ones(chosen.shape[:-1], bool))
    posterior = posterior_of(nets.encoder, params, context)
    uniform = jnp.full(len(labels), 1 / len(labels))
    # Users of the training, as the model knows them: their posterior means.
    earlier = Asked(*(x.reshape(-1, *x.shape[2:])[: config.members] for x in users.train))
    members = posterior_of(nets.encoder, params, shown(earlier, config.context, config.context))
    probs = answer_probs(nets, params, members.means, items, labels)
    even = jnp.full(config.members, 1 / config.members)
    return {
        "random sets": random_scores(key, (len(items),)),
        "code's rule": variance_information(posterior.log_variances),
        "mixture entropy": mixture_information(*posterior, uniform),
        "mutual information": mutual_information(probs, even),
    }


def answer_probs(
    nets: Networks,
    params: UserParams,
    latents: Float[Array, "M k"],
    items: Float[Array, "S n 2 d"],
    labels: Array,
) -> Float[Array, "M S L"]:
    """P(answers to a set) of each member, under the reward given its latent. Label 0: the first
    item of a pair is preferred."""
    flat = items.reshape(-1, items.shape[-1])
    rows = jnp.broadcast_to(flat, (len(latents), *flat.shape))
    scores = nets.reward.scores(params.reward, given(rows, latents))
    scores = scores.reshape(len(latents), *items.shape[:3])
    gaps = scores[..., 0] - scores[..., 1]  # [M, S, n]
    signed = jnp.where(labels == 1, -gaps[:, :, None], gaps[:, :, None])  # [M, S, L, n]
    return jnp.exp(jnp.sum(jax.nn.log_sigmoid(signed), axis=-1))


# ---- Users of different scales.


def scales(config: Config) -> dict[str, np.ndarray]:
    """The second user's utilities times `scale`: ranges of raw and of win-rate rewards."""
    rows = []
    for seed in seeds(config):
        who, people, start, rest = keys_of(config, seed)
        weights = opposite_users(who, config, scale=config.scale)
        users, first = users_of(config, people, weights), first_params(config, start)
        params, _ = fit_vpl(config, first, users, beta=jnp.asarray(config.beta))
        found = measured(config, params, users, jnp.asarray(TWO))
        rows.append({"vpl": found["vpl"][-1]} | ranges(config, rest, params, users, weights))
    return stacked(rows)


@partial(jax.jit, static_argnames="config")
def ranges(
    config: Config,
    key: Key[Array, ""],
    params: UserParams,
    users: Drawn,
    weights: Float[Array, "4 d"],
) -> dict[str, Array]:
    """Mean range of rewards over items, for each kind of user [2], and the rewards in the order of
    the user's utility, in bins [2, bins]; raw, and as win rates over other items."""
    nets = networks(config)
    asked = Asked(*(x[:RANGED] for x in users.test))
    latents = posterior_of(nets.encoder, params, shown(asked, config.context, config.context)).means
    items = jax.random.normal(key, (2 * ITEMS, config.features))
    rows = jnp.broadcast_to(items, (RANGED, *items.shape))
    scores = nets.reward.scores(params.reward, given(rows, latents))
    raw, others = scores[:, :ITEMS], scores[:, ITEMS:]
    order = jnp.argsort(items[:ITEMS] @ weights[asked.groups].T, axis=0).T
    kinds = jax.nn.one_hot(asked.groups % 2, 2)
    share = kinds / jnp.maximum(kinds.sum(0), 1.0)
    found = {}
    for name, rewards in (("raw", raw), ("win rate", score_win_rates(raw, others))):
        ranked = jnp.take_along_axis(rewards, order, axis=1).reshape(RANGED, BINS, -1).mean(-1)
        found[f"{name} range"] = share.T @ jnp.ptp(rewards, axis=1)
        found[f"{name} by utility"] = share.T @ ranked
    return found
