"""A learner with particles: Bayes' rule on choices, and a loop that picks its questions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.feedback_types.config import Config
from rlhf_jax.feedback import choices, posteriors, queries
from rlhf_jax.feedback.posteriors import Particles

RANDOM = "random"


class Records(NamedTuple):
    """N records, each one or more choices: options [N, R, K, d], choice [N, R], mask [N, R, K]."""

    options: jax.Array
    choice: jax.Array
    mask: jax.Array


def loglik(record: Records, theta: jax.Array, beta: float) -> jax.Array:
    """log P(choices | theta) of records [*N, R, ...]: [*N]."""
    values = record.options @ theta
    return choices.choice_loglik(values, record.choice, record.mask, beta=beta).sum(-1)


def believe(
    config: Config, key: jax.Array, particles: Particles, records: Records, t: jax.Array
) -> Particles:
    """The posterior with record t, from the one with the records before it."""
    new = jax.tree.map(lambda x: x[t], records)
    logliks = jax.vmap(lambda theta: loglik(new, theta, config.beta))(particles.thetas)
    seen = jnp.arange(records.choice.shape[0]) <= t

    def log_density(theta):
        return jnp.sum(jnp.where(seen, loglik(records, theta, config.beta), 0.0))

    weighted = posteriors.reweight(particles, logliks)
    return posteriors.resample_move(key, weighted, log_density, steps=config.move_steps)


def estimate(particles: Particles) -> jax.Array:
    """Direction of the posterior mean."""
    return posteriors.to_sphere(posteriors.posterior_mean(particles))


def draw_theta(config: Config, key: jax.Array) -> jax.Array:
    """A hidden reward of norm 1."""
    return posteriors.to_sphere(jax.random.normal(key, (config.num_features,)))


class Question(NamedTuple):
    """What a rule sees: comparisons [B, 2, d], the belief, and inverse information [d, d]."""

    options: jax.Array
    particles: Particles
    covariance: jax.Array


Rule = Callable[[Config, jax.Array, Question], jax.Array]


def of_posterior(score: Callable) -> Rule:
    """A rule that reads the predictions of all particles."""

    def rule(config, key, question):
        thetas, log_weights = question.particles
        probs = queries.member_probs(question.options, thetas, beta=config.beta)
        return score(probs, jnp.exp(log_weights))

    return rule


def random_rule(config: Config, key: jax.Array, question: Question) -> jax.Array:
    """Any of them."""
    return queries.random_scores(key, (question.options.shape[0],))


def disagreement_rule(config: Config, key: jax.Array, question: Question) -> jax.Array:
    """Of a small ensemble drawn from the posterior."""
    members = posteriors.draw_particles(key, question.particles, config.members)
    probs = queries.member_probs(question.options, members, beta=config.beta)
    return queries.disagreement(probs, jnp.full(config.members, 1 / config.members))


def d_optimal_rule(config: Config, key: jax.Array, question: Question) -> jax.Array:
    """At the estimate."""
    return queries.d_optimal(*information(config, question), question.covariance)


def information(config: Config, question: Question) -> tuple[jax.Array, jax.Array]:
    """Differences x [B, d] and the information of their answers [B], at the estimate."""
    x = question.options[:, 1] - question.options[:, 0]
    prefs = jax.nn.sigmoid(config.beta * x @ estimate(question.particles))
    return x, queries.pair_information(prefs, beta=config.beta)


RULES: dict[str, Rule] = {
    RANDOM: random_rule,
    "entropy": of_posterior(queries.entropy_of_mean),
    "volume removal": of_posterior(queries.volume_removal),
    "disagreement": disagreement_rule,
    "mutual information": of_posterior(queries.mutual_information),
    "D-optimal": d_optimal_rule,
}


def ask(
    config: Config,
    key: jax.Array,
    theta: jax.Array,
    rule: jax.Array,
    rules: dict[str, Rule],
    *,
    pool: Callable[[jax.Array, Particles], jax.Array],
    measure: Callable[[Particles], jax.Array],
) -> tuple[jax.Array, jax.Array]:
    """One learner that asks by one rule; keys do not depend on the rule, so pools are shared.

    Args:
      theta: [d] hidden reward. rule: index into rules, traced.
      pool: (key, belief) -> comparisons [B, 2, d]. measure: belief -> a number.
    Returns:
      what was measured before the first answer and after each [queries + 1]; index of the
      comparison asked in each round [queries].
    """
    start_key, round_key = jax.random.split(key)
    particles = posteriors.uniform_particles(start_key, config.particles, config.num_features)
    rounds, d = config.queries + 1, config.num_features  # the last one is only measured
    # A row without an answer yet: two identical options, which say nothing.
    empty = Records(
        jnp.zeros((rounds, 1, 2, d)), jnp.zeros((rounds, 1), int), jnp.ones((rounds, 1, 2), bool)
    )

    def step(carry, t):
        particles, records, covariance = carry
        keys = jax.random.split(jax.random.fold_in(round_key, t), 4)
        question = Question(pool(keys[0], particles), particles, covariance)
        scores = [score(config, keys[1], question) for score in rules.values()]
        best = jnp.argmax(jnp.stack(scores)[rule])
        options = question.options[best]
        answer = choices.sample_choice(keys[2], options @ theta, beta=config.beta)
        records = records._replace(
            options=records.options.at[t, 0].set(options),
            choice=records.choice.at[t, 0].set(answer),
        )
        x, known = information(config, question)
        covariance = queries.add_information(covariance, x[best], known[best])
        answered = believe(config, keys[3], particles, records, t)
        return (answered, records, covariance), (measure(particles), best)

    start = (particles, empty, jnp.eye(d))
    _, (measured, asked) = jax.lax.scan(step, start, jnp.arange(rounds))
    return measured, asked[:-1]
