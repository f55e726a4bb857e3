"""Linear rewards on the same pairs by every loss, the test sets, and the policies they lead to."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from experiments.causal_survey.config import Config
from experiments.causal_survey.world import (
    FEATURE,
    TEST_RHOS,
    WORLDS,
    Pairs,
    accuracy,
    draw_pairs,
    gold,
    tilted,
)
from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.algos.robust_reward import (
    correlation_risk,
    init_group_dro,
    irm_risk,
    make_copies_update,
    make_group_dro_update,
    make_update,
    vrex_risk,
)
from rlhf_jax.losses.links import logistic
from rlhf_jax.losses.robust_reward import (
    correlation_penalty,
    mmd_penalty,
    worst_case_margins,
)
from rlhf_jax.ops.environments import balanced_weights
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.types import PreferenceBatch

REWARD = linear_reward(FEATURE + 1)
ERM, TUNED, ORACLE, COPIES = "ERM", "ERM, tuned ridge", "oracle without s", "copies"
CELLS = 3  # more of the feature, less of it, as much
STRONG = (COPIES, "group DRO, cells", "worst case", "correlation")
MIDDLE = ("V-REx", "IRM", "balanced cells")
MARGINAL = "correlation, both orders"
NAMES = (
    ERM,
    "group DRO, environments",
    *MIDDLE,
    "MMD",
    "correlation",
    "worst case",
    "group DRO, cells",
    COPIES,
    ORACLE,
    MARGINAL,
    TUNED,
)
PLAYED = (ERM, COPIES)  # rewards that policies are trained on


class Method(NamedTuple):
    """updates: run one after the other, each for its share of the steps. batch: of the pairs.

    init: weights -> state. weights: state -> weights.
    """

    updates: tuple[tuple[float, Any], ...]
    batch: Callable[[Pairs], PreferenceBatch]
    init: Callable[[Array], Any]
    weights: Callable[[Any], Array] = lambda state: state.params


class World(NamedTuple):
    """train, held: pairs of the training environments. tests: [rhos, N, 6]. key: of the pool."""

    train: Pairs
    held: Pairs
    tests: Float[Array, "R N 6"]
    key: Array


def study(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """world -> accuracy [S, M, rhos], ratio [S, M] of w_s to |w_q|, and of the policies drift and
    gold [S, P]; M in the order of NAMES, P of PLAYED."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    drawn = [jax.vmap(partial(draw_world, config, world))(keys) for world in WORLDS]
    # One program for both.
    every = jax.tree.map(lambda *x: jnp.concatenate(x), *drawn)
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(partial(study_world, config)))(every))
    parts = {name: np.split(x, len(WORLDS)) for name, x in found.items()}
    return {world: {name: x[i] for name, x in parts.items()} for i, world in enumerate(WORLDS)}


def draw_world(config: Config, world: str, key: Array) -> World:
    """The pairs and test sets of a seed."""
    train_key, held_key, test_key, pool_key = jax.random.split(key, 4)
    draw = partial(draw_pairs, world=world, spread=config.spread)
    tests = [
        draw(k, (rho,), config.tests).x
        for k, rho in zip(jax.random.split(test_key, len(TEST_RHOS)), TEST_RHOS, strict=True)
    ]
    train, held = (draw(k, config.rhos, config.pairs) for k in (train_key, held_key))
    return World(train, held, jnp.stack(tests), pool_key)


def study_world(config: Config, world: World) -> dict[str, Array]:
    """The same pairs, steps and test sets for every method."""
    every = methods(config)
    fitted = {name: fit(config, method, world.train) for name, method in every.items()}
    fitted[TUNED] = tuned(config, world.train, world.held)
    weights = jnp.stack([fitted[name] for name in NAMES])
    right = jax.vmap(lambda w: jax.vmap(partial(accuracy, w))(world.tests))(weights)
    played = [play(config, world.key, fitted[name]) for name in PLAYED]
    drift, worth = (jnp.stack(each) for each in zip(*played, strict=True))
    quality = jnp.linalg.norm(weights[:, :FEATURE], axis=-1)
    ratio = weights[:, FEATURE] / quality
    return {"accuracy": right, "ratio": ratio, "drift": drift, "gold": worth}


def play(config: Config, key: Array, weights: Float[Array, "6"]) -> tuple[Array, Array]:
    """E s and E gold under a policy that has moved `kl` nats along the reward, from a pool."""
    pool = jax.random.normal(key, (config.pool, FEATURE + 1))
    probs = tilted(pool @ weights, config.kl)
    return probs @ pool[:, FEATURE], probs @ gold(pool)


# ---- Training.


def optimizer(config: Config) -> optax.GradientTransformation:
    """The same for all."""
    return optax.adam(optax.cosine_decay_schedule(config.rate, config.steps))


def fit(config: Config, method: Method, pairs: Pairs) -> Float[Array, "6"]:
    """Weights after `steps` updates on all pairs."""
    batch = method.batch(pairs)
    state = method.init(jnp.zeros(FEATURE + 1))
    for share, update in method.updates:

        def step(state, _, update=update):
            return update(state, batch)[0], None

        state, _ = jax.lax.scan(step, state, None, length=round(share * config.steps))
    return method.weights(state)


def tuned(config: Config, train: Pairs, held: Pairs) -> Float[Array, "6"]:
    """ERM with the ridge that is best on held-out pairs of the training environments."""
    adam, batch = optimizer(config), plain(train)

    def one(ridge: Array) -> Array:
        def penalty(w: Array, _: Any) -> Array:
            return ridge * jnp.sum(w**2)

        update = reward_model.make_update(REWARD, adam, penalty=penalty)

        def step(state, _):
            return update(state, batch)[0], None

        state = init_state(jnp.zeros(FEATURE + 1), adam)
        return jax.lax.scan(step, state, None, length=config.steps)[0].params

    every = jax.lax.map(one, jnp.asarray(config.ridges))
    right = jax.vmap(accuracy, (0, None))(every, held.x)
    return every[jnp.argmax(right)]


def plain(pairs: Pairs, weights: Array | None = None, **columns: Array) -> PreferenceBatch:
    """Differences as the chosen answers, nothing as the others."""
    chosen, rejected = (vector_trajectory(x) for x in (pairs.x, jnp.zeros_like(pairs.x)))
    return PreferenceBatch(chosen, rejected, weights=weights, columns=columns or None)


def cells(pairs: Pairs) -> Array:
    """1 where the chosen answer has more of the feature, 0 where it has less, 2 where as much."""
    s = pairs.x[:, FEATURE]
    return jnp.where(s > 0, 1, jnp.where(s < 0, 0, 2))


def turned(x: Float[Array, "*B 6"]) -> Float[Array, "*B 6"]:
    """The same pairs with the feature turned round: what an editor of the feature makes."""
    return x.at[..., FEATURE].multiply(-1.0)


def methods(config: Config) -> dict[str, Method]:
    """name -> method: all of NAMES but TUNED."""
    adam = optimizer(config)
    start, count = partial(init_state, optimizer=adam), len(config.rhos)

    def in_environments(pairs: Pairs) -> PreferenceBatch:
        return plain(pairs, environments=pairs.environments)

    def in_cells(pairs: Pairs) -> PreferenceBatch:
        return plain(pairs, environments=cells(pairs))

    def balanced(pairs: Pairs) -> PreferenceBatch:
        mask = jnp.ones(len(pairs.x), bool)
        return plain(pairs, balanced_weights(cells(pairs), mask, count=CELLS))

    def featured(pairs: Pairs) -> PreferenceBatch:
        return plain(pairs, features=pairs.x[:, FEATURE])

    def copied(pairs: Pairs) -> PreferenceBatch:
        return plain(Pairs(jnp.stack([pairs.x, turned(pairs.x)], axis=1), pairs.environments))

    def robust(risk: Any, batch: Any) -> Method:
        return Method(((1.0, make_update(REWARD, adam, risk=risk)),), batch, start)

    def dro(batch: Any, count: int) -> Method:
        update = make_group_dro_update(REWARD, adam, count=count, eta=config.eta)
        init = partial(init_group_dro, optimizer=adam, count=count)
        return Method(((1.0, update),), batch, init, lambda state: state.train.params)

    mmd = partial(mmd_of_some, penalty=config.mmd, size=config.mmd_pairs)
    vrex, irm = partial(vrex_risk, count=count, penalty=config.vrex), partial(irm_risk, count=count)
    warm, late = (
        make_update(REWARD, adam, risk=partial(irm, penalty=lam)) for lam in (0.0, config.irm)
    )
    erm = reward_model.make_update(REWARD, adam)
    return {
        ERM: Method(((1.0, erm),), plain, start),
        "group DRO, environments": dro(in_environments, count),
        "V-REx": robust(vrex, in_environments),
        "IRM": Method(
            ((config.irm_warm, warm), (1.0 - config.irm_warm, late)), in_environments, start
        ),
        "balanced cells": Method(((1.0, erm),), balanced, start),
        "MMD": robust(mmd, in_cells),
        "correlation": robust(partial(correlation_risk, penalty=config.correlation), featured),
        "worst case": Method(((1.0, worst_case_update(config, adam)),), plain, start),
        "group DRO, cells": dro(in_cells, CELLS),
        COPIES: Method(((1.0, make_copies_update(REWARD, adam)),), copied, start),
        ORACLE: Method(((1.0, erm),), lambda pairs: plain(without(pairs)), start),
        MARGINAL: robust(partial(marginal_risk, penalty=config.correlation), featured),
    }


def without(pairs: Pairs) -> Pairs:
    """The pairs with s at 0."""
    return Pairs(pairs.x.at[:, FEATURE].set(0.0), pairs.environments)


def mmd_of_some(
    chosen: Array,
    rejected: Array,
    mask: Array,
    *,
    environments: Array,
    size: int,
    penalty: float,
) -> Float[Array, ""]:
    """`mmd_risk` with the term on the first `size` pairs: it compares each of them with each."""
    z = chosen - rejected
    apart = mmd_penalty(z[:size], environments[:size], mask[:size], count=CELLS, bandwidth=1.0)
    return jnp.mean(logistic(z)) + penalty * apart


def marginal_risk(
    chosen: Array, rejected: Array, mask: Array, *, features: Array, penalty: float
) -> Float[Array, ""]:
    """Bradley-Terry and the squared correlation over both orders of each pair."""
    both = (jnp.concatenate([x, -x]) for x in (chosen - rejected, features))
    shared = correlation_penalty(*both, jnp.concatenate([mask, mask]))
    return jnp.mean(logistic(chosen - rejected)) + penalty * shared


def worst_case_update(config: Config, adam: optax.GradientTransformation) -> Any:
    """Bradley-Terry of the margins under the worst feature within `radius` of the real one."""

    def update(state: Any, batch: PreferenceBatch) -> tuple[Any, Any]:
        def objective(w: Array) -> tuple[Mean, dict]:
            scores = (REWARD.scores(w, side) for side in (batch.chosen, batch.rejected))
            chosen, rejected = scores
            slopes = jnp.broadcast_to(w[FEATURE:], (*chosen.shape, 1))
            margins = worst_case_margins(chosen - rejected, slopes, radius=config.radius)
            return weighted_mean(logistic(margins)), {}

        return gradient_step(state, objective, adam)

    return update


def at(found: Mapping[str, np.ndarray], name: str, rho: float) -> np.ndarray:
    """[S] accuracy of a method at one of TEST_RHOS."""
    return found["accuracy"][:, NAMES.index(name), TEST_RHOS.index(rho)]


def ratio_of(found: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """[S] weight of the feature over the norm of the others."""
    return found["ratio"][:, NAMES.index(name)]
