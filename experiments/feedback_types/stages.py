"""Active queries, a learner who is wrong about the teacher, and kinds of feedback."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.feedback_types.config import Config
from experiments.feedback_types.kinds import GROUPS, MIXED, TYPES, Group, answered, drawn
from experiments.feedback_types.learner import (
    Rationality,
    ask,
    believe,
    draw_theta,
    estimate,
    record_information,
)
from experiments.feedback_types.rules import ASKED, RANDOM
from rlhf_jax.feedback import choices, posteriors, queries

COPIES, OTHERS = 0.05, 0.7  # spread of feature differences: near-copies, and the other half
DOUBTED = (RANDOM, "entropy", "mutual information")  # rules of a learner who may be wrong
IN_ORDER, PICKED, BLIND = ORDERS = ("in order", "picked", "answers at random")
BELIEVED = (*TYPES, MIXED)  # kinds that are also read from answers at random


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


def near_copies(config: Config, key: jax.Array) -> jax.Array:
    """A pool [pool, 2, d] of comparisons, the first half of them between almost equal items."""
    spread = jnp.where(jnp.arange(config.pool) < config.pool // 2, COPIES, OTHERS)[:, None]
    x = spread * jax.random.normal(key, (config.pool, config.num_features))
    return jnp.stack([jnp.zeros_like(x), x], axis=1)


def wrong_minds(config: Config) -> list[tuple[str, float, float]]:
    """Name, the learner's beta over the teacher's, and mistakes of each wrong belief."""
    wrong = [(f"beta x {factor:g}", factor, 0.0) for factor in config.factors]
    return [*wrong, (f"{config.mistakes:.0%} mistakes", 1.0, config.mistakes)]


def active_queries(config: Config) -> dict[str, np.ndarray]:
    """Every rule with a learner who knows beta, some with one who is wrong about the teacher.

    Returns:
      "cosine" to the hidden reward [rules, seeds, queries + 1]; "copies" [rules, seeds, queries]: 1
      where a near-copy was asked about; "wrong" [beliefs, DOUBTED, seeds, queries + 1] cosines.
    """

    def run(key, rule, assumed, mistakes):
        theta_key, key = jax.random.split(key)
        theta = draw_theta(config, theta_key)
        return ask(
            config,
            key,
            theta,
            rule,
            ASKED,
            minds=Rationality(config.beta, assumed, mistakes),
            count=config.queries,
            pool=lambda key, _: near_copies(config, key),
            measure=lambda particles: estimate(particles) @ theta,
        )

    known = [(rule, config.beta, 0.0) for rule in range(len(ASKED))]
    doubted = [
        (list(ASKED).index(rule), factor * config.beta, mistakes)
        for _, factor, mistakes in wrong_minds(config)
        for rule in DOUBTED
    ]
    cosines, asked = over_cases(config, run, *zip(*known, *doubted, strict=True))
    found, wrong = np.split(cosines, [len(known)])
    return {
        "cosine": found,
        "copies": (asked[: len(known)] < config.pool // 2).astype(float),
        "wrong": wrong.reshape(-1, len(DOUBTED), *wrong.shape[1:]),
    }


def feedback_kinds(config: Config) -> dict[str, np.ndarray]:
    """ "kind, order" -> cosine after each record [seeds, most_records]; "kind, told" -> the error
    1 - cosine [seeds] that the information in the first `records` in order lets expect."""
    found = {}
    for group in GROUPS:
        cases = [
            (which, order)
            for which, name in enumerate(group.names)
            for order in range(len(ORDERS))
            if ORDERS[order] != BLIND or name in BELIEVED
        ]
        cosines, *known = over_cases(config, learner(config, group), *zip(*cases, strict=True))
        told = expected_errors(*known)
        for i, (which, order) in enumerate(cases):
            found[f"{group.names[which]}, {ORDERS[order]}"] = cosines[i]
            if ORDERS[order] == IN_ORDER:
                found[f"{group.names[which]}, told"] = told[i]
    return found


def expected_errors(theta: np.ndarray, information: np.ndarray) -> np.ndarray:
    """tr J^-1 / 2 across theta [*B, d], J [*B, d, d] the information of all records: what 1 -
    cosine of an efficient estimate on the sphere is on average."""
    along = theta[..., None] * theta[..., None, :]
    across = np.eye(theta.shape[-1]) - along
    # The direction of theta itself is known: it gets information 1, and then none of the sum.
    inverse = np.linalg.inv(across @ information @ across + along)
    return (np.trace(inverse, axis1=-2, axis2=-1) - 1) / 2


def learner(config: Config, group: Group) -> Callable:
    """`run(key, which, order)`: cosine after each record of one kind [most_records], the hidden
    reward, and the information in the first `records` of them [d, d]."""
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
            known = jnp.where(t < config.records, record_information(new, theta, config.beta), 0)
            return (moved, records), (estimate(moved) @ theta, known)

        rows = jax.eval_shape(lambda: answered(group, key, theta, *offer(key, 0), beta=beta))
        # Of rows without a record all options exist: -inf would make NaN of them.
        empty = jax.tree.map(
            lambda x: jnp.full((config.most_records, *x.shape), x.dtype == bool, x.dtype), rows
        )
        start = posteriors.uniform_particles(start_key, size, d), empty
        cosines, known = jax.lax.scan(step, start, jnp.arange(config.most_records))[1]
        return cosines, theta, known.sum(0)

    return run
