"""Active queries, a learner who is wrong about the teacher, and kinds of feedback."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.feedback_types.config import Config
from experiments.feedback_types.kinds import (
    GROUPS,
    KINDS,
    MIXED,
    TYPES,
    Group,
    answered,
    drawn,
)
from experiments.feedback_types.learner import (
    Rationality,
    ask,
    believe,
    draw_theta,
    estimate,
    loglik,
)
from experiments.feedback_types.rules import ASKED, RANDOM, RULES
from rlhf_jax.feedback import choices, posteriors, queries

COPIES, OTHERS = 0.05, 0.7  # spread of feature differences: near-copies, and the other half
DOUBTED = (RANDOM, "entropy", "mutual information")  # rules of a learner who may be wrong
IN_ORDER, PICKED, BLIND = ORDERS = ("in order", "picked", "answers at random")
BELIEVED = (*TYPES, MIXED)  # kinds that are also read from answers at random
SAMPLED = 100  # records of each kind for its information


def for_all(run: Callable, *inputs: jax.Array) -> Any:
    """run over the leading axis of the inputs, one after another in one program: alone, a run skips
    the Metropolis steps wherever its posterior does not need them."""
    found = jax.jit(lambda *each: jax.lax.map(lambda one: run(*one), each))(*inputs)
    return jax.tree.map(np.asarray, found)


def over_cases(config: Config, run: Callable, *columns: Sequence[float]) -> Any:
    """run(key, *case) for every case (one entry of each column) and seed: [cases, seeds, ...]."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    cases = [jnp.repeat(jnp.asarray(column), config.num_seeds) for column in columns]
    found = for_all(run, jnp.tile(keys, len(columns[0])), *cases)
    shape = (len(columns[0]), config.num_seeds)
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), found)


def near_copies(config: Config, key: jax.Array, _: Any) -> jax.Array:
    """A pool [pool, 2, d] of comparisons, the first half of them between almost equal items."""
    spread = jnp.where(jnp.arange(config.pool) < config.pool // 2, COPIES, OTHERS)[:, None]
    x = spread * jax.random.normal(key, (config.pool, config.num_features))
    return jnp.stack([jnp.zeros_like(x), x], axis=1)


def asked_cosines(config: Config, rules: dict, *, count: int) -> Callable:
    """`run(key, rule, actual, assumed, mistakes)`: cosines to the hidden reward [count + 1], and
    the comparisons asked [count]."""

    def run(key, rule, actual, assumed, mistakes):
        theta_key, key = jax.random.split(key)
        theta = draw_theta(config, theta_key)
        return ask(
            config,
            key,
            theta,
            rule,
            rules,
            minds=Rationality(actual, assumed, mistakes),
            count=count,
            pool=lambda key, particles: near_copies(config, key, particles),
            measure=lambda particles: estimate(particles) @ theta,
        )

    return run


def active_queries(config: Config) -> dict[str, np.ndarray]:
    """ "cosine" to the hidden reward [rules, seeds, queries + 1], and "copies" [rules, seeds,
    queries]: 1 where a near-copy was asked about."""
    run = asked_cosines(config, ASKED, count=config.queries)
    each = [config.beta] * len(ASKED)
    cosines, asked = over_cases(config, run, range(len(ASKED)), each, each, [0.0] * len(ASKED))
    return {"cosine": cosines, "copies": (asked < config.pool // 2).astype(float)}


def wrong_minds(config: Config) -> list[tuple[str, float, float]]:
    """Name, the learner's beta over the teacher's, and mistakes of each wrong belief."""
    wrong = [(f"beta x {factor:g}", factor, 0.0) for factor in config.factors]
    return [*wrong, (f"{config.mistakes:.0%} mistakes", 1.0, config.mistakes)]


def wrong_beliefs(config: Config) -> dict[str, np.ndarray]:
    """ "cosine" [beliefs, DOUBTED, seeds, compared + 1]."""
    rules = {name: RULES[name] for name in DOUBTED}
    run = asked_cosines(config, rules, count=config.compared)
    cases = [
        (rule, config.beta, factor * config.beta, mistakes)
        for _, factor, mistakes in wrong_minds(config)
        for rule in range(len(rules))
    ]
    cosines, _ = over_cases(config, run, *zip(*cases, strict=True))
    return {"cosine": cosines.reshape(-1, len(rules), *cosines.shape[1:])}


def feedback_kinds(config: Config) -> dict[str, np.ndarray]:
    """ "kind, order" -> cosine after each record [seeds, most_records]."""
    found = {}
    for group in GROUPS:
        cases = [
            (which, order)
            for which, name in enumerate(group.names)
            for order in range(len(ORDERS))
            if ORDERS[order] != BLIND or name in BELIEVED
        ]
        cosines = over_cases(config, learner(config, group), *zip(*cases, strict=True))
        names = [f"{group.names[which]}, {ORDERS[order]}" for which, order in cases]
        found |= dict(zip(names, cosines, strict=True))
    return found


def learner(config: Config, group: Group) -> Callable:
    """`run(key, which, order)`: cosine after each record of one kind [most_records]."""
    size, d = config.particles, config.num_features

    def run(key, which, order):
        theta_key, start_key, key = jax.random.split(key, 3)
        theta = draw_theta(config, theta_key)
        beta = jnp.where(order == ORDERS.index(BLIND), 0.0, config.beta)

        def offer(key, t):
            return drawn(group, key, which, t, d)

        def pick(particles, options, exists):
            values = jnp.einsum("okd,md->mok", options, particles.thetas)
            masks = jnp.broadcast_to(exists, values.shape)
            probs = jnp.exp(choices.choice_logps(values, masks, beta=config.beta))
            return jnp.argmax(queries.mutual_information(probs, jnp.exp(particles.log_weights)))

        def step(carry, t):
            particles, records = carry
            keys = jax.random.split(jax.random.fold_in(key, t), 3)
            offers = jax.vmap(offer, (0, None))(jax.random.split(keys[0], config.offers), t)
            taken = jax.lax.cond(
                order == ORDERS.index(PICKED), pick, lambda *_: 0, particles, *offers
            )
            options, exists = (x[taken] for x in offers)
            new = answered(group, keys[1], theta, options, exists, beta=beta)
            records = jax.tree.map(lambda old, new: old.at[t].set(new), records, new)
            moved = believe(config, keys[2], particles, records, t, beta=config.beta)
            return (moved, records), estimate(moved) @ theta

        rows = jax.eval_shape(lambda: answered(group, key, theta, *offer(key, 0), beta=beta))
        # Of rows without a record all options exist: -inf would make NaN of them.
        empty = jax.tree.map(
            lambda x: jnp.full((config.most_records, *x.shape), x.dtype == bool, x.dtype), rows
        )
        start = posteriors.uniform_particles(start_key, size, d), empty
        return jax.lax.scan(step, start, jnp.arange(config.most_records))[1]

    return run


def kind_information(config: Config) -> dict[str, np.ndarray]:
    """Kind -> tr J^-1 [seeds], J the Fisher information of a record across the hidden reward.

    The posterior of n records is about normal on the sphere, so 1 - cosine is about tr J^-1 / 2 n.
    """
    found = {}
    for group in GROUPS:
        names = [name for name in group.names if name != MIXED]

        def trace(key, which, group=group):
            theta_key, key = jax.random.split(key)
            theta = draw_theta(config, theta_key)

            def information(key):
                keys = jax.random.split(key)
                offer = drawn(group, keys[0], which, jnp.zeros((), int), config.num_features)
                record = answered(group, keys[1], theta, *offer, beta=config.beta)
                return -jax.hessian(lambda theta: loglik(record, theta, config.beta))(theta)

            mean = jax.lax.map(information, jax.random.split(key, SAMPLED)).mean(0)
            across = jnp.eye(config.num_features) - jnp.outer(theta, theta)
            # The direction of theta itself is known: it gets all information, then none of the sum.
            inverse = jnp.linalg.inv(across @ mean @ across + jnp.outer(theta, theta))
            return jnp.trace(inverse) - 1

        traces = over_cases(config, trace, range(len(names)))
        found |= dict(zip(names, traces, strict=True))
    return {name: found[name] for name in KINDS}
