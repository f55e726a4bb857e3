"""A learner with particles: Bayes' rule on choices, and a loop that picks its questions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.feedback_types.config import Config
from rlhf_jax.feedback import choices, posteriors, queries, teachers
from rlhf_jax.feedback.posteriors import Particles
from rlhf_jax.types import Scalar


class Records(NamedTuple):
    """N records, each one or more choices: options [N, R, K, d], choice [N, R], mask [N, R, K]."""

    options: jax.Array
    choice: jax.Array
    mask: jax.Array


class Rationality(NamedTuple):
    """actual: beta of the teacher. assumed: what the learner takes it for. mistakes: share of the
    answers to comparisons that are flipped, which the learner does not know of."""

    actual: Scalar
    assumed: Scalar
    mistakes: Scalar = 0.0


def loglik(record: Records, theta: jax.Array, beta: Scalar) -> jax.Array:
    """log P(choices | theta) of records [*N, R, ...]: [*N]."""
    values = record.options @ theta
    return choices.choice_loglik(values, record.choice, record.mask, beta=beta).sum(-1)


def record_information(record: Records, theta: jax.Array, beta: Scalar) -> jax.Array:
    """Fisher information [d, d] of one record [R, ...]: beta^2 Cov(options) of each choice."""
    logps = choices.choice_logps(record.options @ theta, record.mask, beta=beta)
    probs = jnp.exp(logps)[..., None]
    centred = record.options - jnp.sum(probs * record.options, axis=-2, keepdims=True)
    return beta**2 * jnp.einsum("rkx,rki,rkj->ij", probs, centred, centred)


def believe(
    config: Config,
    key: jax.Array,
    particles: Particles,
    records: Records,
    t: jax.Array,
    *,
    beta: Scalar,
) -> Particles:
    """The posterior with record t, from the one with the records before it."""
    new = jax.tree.map(lambda x: x[t], records)
    logliks = jax.vmap(lambda theta: loglik(new, theta, beta))(particles.thetas)
    seen = jnp.arange(records.choice.shape[0]) <= t

    def log_density(theta):
        return jnp.sum(jnp.where(seen, loglik(records, theta, beta), 0.0))

    weighted = posteriors.reweight(particles, logliks)
    return posteriors.resample_move(key, weighted, log_density, steps=config.move_steps)


def estimate(particles: Particles) -> jax.Array:
    """Direction of the posterior mean."""
    return posteriors.to_sphere(posteriors.posterior_mean(particles))


def draw_theta(config: Config, key: jax.Array) -> jax.Array:
    """A hidden reward of norm 1."""
    return posteriors.to_sphere(jax.random.normal(key, (config.num_features,)))


class Question(NamedTuple):
    """What a rule sees: comparisons [B, 2, d], the belief, inverse information [d, d], and the
    beta that the learner takes for the teacher's."""

    options: jax.Array
    particles: Particles
    covariance: jax.Array
    beta: Scalar


Rule = Callable[[Config, jax.Array, Question], jax.Array]


def information(question: Question) -> tuple[jax.Array, jax.Array]:
    """Differences x [B, d] and the information of their answers [B], at the estimate."""
    x = question.options[:, 1] - question.options[:, 0]
    prefs = jax.nn.sigmoid(question.beta * x @ estimate(question.particles))
    return x, queries.pair_information(prefs, beta=question.beta)


def ask(
    config: Config,
    key: jax.Array,
    theta: jax.Array,
    rule: jax.Array,
    rules: dict[str, Rule],
    *,
    minds: Rationality,
    count: int,
    pool: Callable[[jax.Array, Particles], jax.Array],
    measure: Callable[[Particles], jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """One learner that asks by one rule; keys do not depend on the rule, so pools are shared.

    Args:
      theta: [d] hidden reward. rule: index into rules, traced.
      minds: of the teacher, and in the eyes of the learner. count: questions.
      pool: (key, belief) -> comparisons [B, 2, d]. measure: belief -> a number.
    Returns:
      what was measured before the first answer and after each [count + 1]; index of the
      comparison asked in each round [count].
    """
    start_key, round_key = jax.random.split(key)
    particles = posteriors.uniform_particles(start_key, config.particles, config.num_features)
    rounds, d = count + 1, config.num_features  # the last one is only measured
    # A row without an answer yet: two identical options, which say nothing.
    empty = Records(
        jnp.zeros((rounds, 1, 2, d)), jnp.zeros((rounds, 1), int), jnp.ones((rounds, 1, 2), bool)
    )

    def step(carry, t):
        particles, records, covariance = carry
        keys = jax.random.split(jax.random.fold_in(round_key, t), 5)
        question = Question(pool(keys[0], particles), particles, covariance, minds.assumed)
        scorers = [
            lambda key, seen, score=score: score(config, key, seen) for score in rules.values()
        ]
        best = jnp.argmax(jax.lax.switch(rule, scorers, keys[1], question))
        options = question.options[best]
        answer = choices.sample_choice(keys[2], options @ theta, beta=minds.actual)
        answer = teachers.flip_labels(keys[4], answer, rate=minds.mistakes)
        records = records._replace(
            options=records.options.at[t, 0].set(options),
            choice=records.choice.at[t, 0].set(answer),
        )
        x, known = information(question)
        covariance = queries.add_information(covariance, x[best], known[best])
        answered = believe(config, keys[3], particles, records, t, beta=minds.assumed)
        return (answered, records, covariance), (measure(particles), best)

    start = (particles, empty, jnp.eye(d))
    _, (measured, asked) = jax.lax.scan(step, start, jnp.arange(rounds))
    return measured, asked[:-1]
