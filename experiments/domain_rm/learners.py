"""Worlds where a few of many dimensions decide, and reward models fitted to comparisons."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.domain_rm.config import FEW, MANY, MORE, Config
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_model import make_update
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.ops.statistics import best_of_n_curve, wins
from rlhf_jax.policies.features import bottleneck_reward, given_features
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.types import Params, PreferenceBatch, RewardFn

HIDDEN = (6, 4, 2)  # of the network that the paper uses in RL
DECAY, WARMUP, CLIP = 0.05, 0.3, 1.0  # weight decay, share of the steps, gradient norm
Fits = dict[str, Array]


class World(NamedTuple):
    """directions: [dims, features], orthonormal; qualities are projections on them.

    weights: [features] > 0, of norm 1; log-odds are strength times the weighted gap.
    """

    directions: Array
    weights: Array


class Pairs(NamedTuple):
    """raw: [N, dims] gap of two answers, first minus second. first, second: [N, d] their features
    as rated. logits: [N] true log-odds of the first."""

    raw: Array
    first: Array
    second: Array
    logits: Array


@partial(jax.jit, static_argnames="config")
def draw_world(key: Key[Array, ""], config: Config) -> World:
    """Random directions and positive weights."""
    keys = jax.random.split(key)
    directions = jnp.linalg.qr(jax.random.normal(keys[0], (config.dims, config.features)))[0]
    weights = jnp.abs(jax.random.normal(keys[1], (config.features,)))
    return World(directions, weights / jnp.linalg.norm(weights))


@partial(jax.jit, static_argnames=("config", "size"))
def draw_pairs(key: Key[Array, ""], world: World, config: Config, size: int) -> Pairs:
    """Standard normal answers. Their gap and their mean are independent, so that only the gap is
    drawn in all dimensions: a linear model sees nothing else."""
    keys = jax.random.split(key, 4)
    raw = jnp.sqrt(2.0) * jax.random.normal(keys[0], (size, config.dims))
    gaps = raw @ world.directions
    middle = jnp.sqrt(0.5) * jax.random.normal(keys[1], gaps.shape)
    errors = [config.noise * jax.random.normal(one, gaps.shape) for one in keys[2:]]
    first, second = middle + gaps / 2 + errors[0], middle - gaps / 2 + errors[1]
    return Pairs(raw, first, second, config.strength * (gaps @ world.weights))


@partial(jax.jit, static_argnames="config")
def draw_labelled(key: Key[Array, ""], world: World, config: Config) -> Pairs:
    """The largest training set, labels drawn from the logistic, winners first."""
    keys = jax.random.split(key)
    pairs = draw_pairs(keys[0], world, config, config.sizes[-1])
    won = jax.random.bernoulli(keys[1], jax.nn.sigmoid(pairs.logits))
    winners = jnp.where(won[:, None], pairs.first, pairs.second)
    losers = jnp.where(won[:, None], pairs.second, pairs.first)
    raw = jnp.where(won[:, None], pairs.raw, -pairs.raw)
    return Pairs(raw, winners, losers, jnp.where(won, pairs.logits, -pairs.logits))


def fit_linear(
    gaps: Float[Array, "N d"], counts: Float[Array, "M"], ridges: Float[Array, "R"], steps: int
) -> Fits:
    """argmin_w sum_{i < count} -log sigmoid(<w, gap_i>) + ridge / 2 |w|^2, for each count, ridge.

    Newton steps with the bound X^T X / 4 + ridge on the Hessian, which needs no line search and is
    inverted once, and Nesterov's momentum, dropped where it points uphill.

    Returns:
      weights [M, R, d], and residual [M, R]: the largest entry of the gradient, per pair.
    Reference: Bohning and Lindsay 1988, "Monotonicity of quadratic-approximation algorithms";
      O'Donoghue and Candes 2012, arXiv:1204.3982, for the restart.
    """
    # Two programs: with all of a run in one, it hung on two threads.
    return _momentum(gaps, counts, ridges, _inverses(gaps, counts, ridges), steps)


@jax.jit
def _inverses(gaps: Array, counts: Array, ridges: Array) -> Float[Array, "M R d d"]:
    """(X^T X / 4 + ridge)^-1, X the first gaps."""
    counted = _counted(gaps, counts)
    grams = jnp.stack([(gaps * one[:, None]).T @ gaps for one in counted])
    eye = jnp.eye(gaps.shape[-1])
    return jnp.linalg.inv(grams[:, None] / 4 + ridges[:, None, None] * eye)


def _counted(gaps: Array, counts: Array) -> Float[Array, "M N"]:
    """1 for the first gaps."""
    return (jnp.arange(len(gaps)) < counts[:, None]).astype(gaps.dtype)


@partial(jax.jit, static_argnames="steps")
def _momentum(gaps: Array, counts: Array, ridges: Array, inverses: Array, steps: int) -> Fits:
    """The steps of `fit_linear`."""
    counted = _counted(gaps, counts)

    def objective(weights: Float[Array, "M R d"]) -> Array:
        margins = weights @ gaps.T
        losses = bradley_terry_loss(margins, jnp.zeros_like(margins)) * counted[:, None]
        return losses.sum() + 0.5 * jnp.sum(ridges * jnp.sum(weights**2, -1))

    def step(carry, _):
        weights, ahead, pace = carry
        grads = jax.grad(objective)(ahead)
        moved = ahead - jnp.einsum("mrde,mre->mrd", inverses, grads)
        uphill = jnp.sum(grads * (moved - weights), -1, keepdims=True) > 0
        pace = jnp.where(uphill, 1.0, pace)
        faster = (1 + jnp.sqrt(1 + 4 * pace**2)) / 2
        return (moved, moved + (pace - 1) / faster * (moved - weights), faster), None

    start = jnp.zeros((len(counts), len(ridges), gaps.shape[-1]), gaps.dtype)
    carry = start, start, jnp.ones_like(start[..., :1])
    weights = jax.lax.scan(step, carry, length=steps)[0][0]
    residual = jnp.max(jnp.abs(jax.grad(objective)(weights)), -1) / counts[:, None]
    return {"weights": weights, "residual": residual}


def fit_sizes(gaps: Float[Array, "N d"], ridges: tuple[float, ...], config: Config) -> Fits:
    """`fit_linear` for every size: weights [sizes, ridges, d], residual [sizes, ridges].

    Sizes up to 2,000 share a program over the first pairs, the others one over all of them.
    """
    small = [n for n in config.sizes if n <= MORE]
    fits = [
        fit_linear(gaps[: sizes[-1]], jnp.array(sizes, float), jnp.array(ridges), config.fit_steps)
        for sizes in (small, config.sizes[len(small) :])
    ]
    return jax.tree.map(lambda *each: jnp.concatenate(each), *fits)


def network_reward(config: Config) -> RewardFn:
    """The paper's 6-4-2 network over the features, with a linear output."""
    return bottleneck_reward(given_features, make_mlp((config.features, *HIDDEN, 1)))


@partial(jax.jit, static_argnames=("size", "config"))
def fit_network(key: Key[Array, ""], pairs: Pairs, size: int, config: Config) -> Params:
    """The network fitted to the first `size` pairs, as the paper trains it."""
    init_key, row_key = jax.random.split(key)
    steps = config.epochs * (size // config.batch)
    rates = optax.warmup_cosine_decay_schedule(0.0, config.rate, int(WARMUP * steps), steps)
    optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.adamw(rates, weight_decay=DECAY))
    reward = network_reward(config)
    update = make_update(reward, optimizer)
    state = init_state(reward.init(init_key), optimizer)

    def step(state, key):
        rows = jax.random.randint(key, (config.batch,), 0, size)
        chosen, rejected = (vector_trajectory(x[rows]) for x in (pairs.first, pairs.second))
        return update(state, PreferenceBatch(chosen, rejected))[0], None

    return jax.lax.scan(step, state, jax.random.split(row_key, steps))[0].params


def accuracy(gaps: Float[Array, "*B N"], logits: Float[Array, "N"]) -> Float[Array, "*B"]:
    """Agreement of gaps of scores with the noise-free preference; a tie counts one half."""
    signs = jnp.broadcast_to(jnp.sign(logits), gaps.shape)
    return wins(gaps * signs, jnp.zeros_like(gaps)).mean(-1)


def study(config: Config, key: Key[Array, ""]) -> dict[str, Array]:
    """One world: fits of all models, their accuracies, and the best of n by each."""
    keys = jax.random.split(key, 5)
    world = draw_world(keys[0], config)
    train = draw_labelled(keys[1], world, config)
    test = draw_pairs(keys[2], world, config, config.test_pairs)
    gaps, tested = train.first - train.second, test.first - test.second
    fits = {
        "raw": fit_sizes(train.raw, config.ridges, config),
        "features": fit_sizes(gaps, (config.ridge,), config),
    }
    right = {
        "raw": accuracy(fits["raw"]["weights"] @ test.raw.T, test.logits),
        "features": accuracy(fits["features"]["weights"] @ tested.T, test.logits),
    }
    # A feature that is left out has weight 0, as its gaps are.
    some = [fit_sizes(gaps * kept, (config.ridge,), config) for kept in kept_features(config)]
    each = [accuracy(fit["weights"] @ tested.T, test.logits) for fit in some]
    right["some features"] = jnp.mean(jnp.stack(each), axis=0)
    best = jnp.argmax(right["raw"], axis=-1)
    raw = jnp.take_along_axis(fits["raw"]["weights"], best[:, None, None], axis=1)[:, 0]
    seven = fits["features"]["weights"][:, 0]
    few, many = (config.sizes.index(n) for n in (FEW, MANY))
    picked = {
        "features, few": (seven[few], None),
        "features, many": (seven[many], None),
        "raw, few": (None, raw[few]),
        "raw, many": (None, raw[many]),
        "truth": (None, world.directions @ world.weights),
        **{f"some {i}": (fit["weights"][many, 0], None) for i, fit in enumerate(some)},
    }
    chosen = best_of(keys[4], world, picked, config)
    parts = [chosen.pop(f"some {i}") for i in range(len(some))]
    chosen["some features, many"] = jnp.mean(jnp.stack(parts), axis=0)
    return {
        **{f"accuracy/{name}": each.max(-1) for name, each in right.items()},
        **{f"residual/{name}": fit["residual"].max(-1) for name, fit in fits.items()},
        "ridge": jnp.array(config.ridges)[best],
        "accuracy/mean of features": accuracy(tested.mean(-1), test.logits),
        "accuracy/true weights": accuracy(tested @ world.weights, test.logits),
        "accuracy/network": network_accuracy(keys[3], train, test, config),
        "cosine": seven @ world.weights / jnp.linalg.norm(seven, axis=-1),
        **{f"best/{name}": each for name, each in chosen.items()},
    }


def kept_features(config: Config) -> Float[Array, "F F"]:
    """1 for the features that a model with wrong knowledge is given: as many sets as features, each
    feature in `kept` of them. Results are means over the sets."""
    first = jnp.arange(config.features) < config.kept
    return jnp.stack([jnp.roll(first, i) for i in range(config.features)]).astype(float)


def network_accuracy(key: Key[Array, ""], train: Pairs, test: Pairs, config: Config) -> Array:
    """Of the 6-4-2 network from few and from many pairs, [2]."""
    reward = network_reward(config)

    def tested(size: int) -> Array:
        params = fit_network(key, train, size, config)
        scores = (reward.scores(params, vector_trajectory(x)) for x in (test.first, test.second))
        first, second = scores
        return accuracy(first - second, test.logits)

    return jnp.stack([tested(size) for size in (FEW, MANY)])


@partial(jax.jit, static_argnames="config")
def best_of(key: Key[Array, ""], world: World, models: dict, config: Config) -> Fits:
    """True log-odds over an average answer of the best of n by each model, means over prompts [ns].

    models: name -> (weights of the rated features, or None; weights of the raw vector, or None).
    """
    keys = jax.random.split(key, 3)
    shape = (config.prompts, config.pool)
    qualities = jax.random.normal(keys[0], (*shape, config.features))
    rated = qualities + config.noise * jax.random.normal(keys[1], qualities.shape)
    gold = config.strength * (qualities @ world.weights)
    rest = jax.random.normal(keys[2], shape)
    found = {}
    for name, (features, raw) in models.items():
        if raw is None:
            scores = rated @ features
        else:
            # <w, x> for a standard normal x of which only the qualities were drawn: the part of w
            # in their space, and one normal number for all the rest.
            inside = world.directions.T @ raw
            scores = qualities @ inside + rest * jnp.linalg.norm(raw - world.directions @ inside)
        found[name] = best_of_n_curve(scores, gold, jnp.array(config.ns)).mean(0)
    return found


def study_all(config: Config) -> dict[str, np.ndarray]:
    """`study` of every seed, one after the other, seeds first."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    found = [jax.tree.map(np.asarray, study(config, key)) for key in keys]
    return jax.tree.map(lambda *each: np.stack(each), *found)
