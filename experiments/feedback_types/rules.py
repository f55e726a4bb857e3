"""Which comparison to ask next: rules of the literature, and cheap rivals.

The pool of `stages.active_queries` holds near-copies, pairs of almost equal items. The rivals know
that: they look only at the share of the pool whose items differ most. The best of their shares is a
tuned rival of the rules that measure information.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from experiments.feedback_types.config import Config
from experiments.feedback_types.learner import Question, Rule, information
from rlhf_jax.feedback import posteriors, queries

RANDOM = "random"


def of_posterior(score: Callable) -> Rule:
    """A rule that reads the predictions of all particles."""

    def rule(config, key, question):
        thetas, log_weights = question.particles
        probs = queries.member_probs(question.options, thetas, beta=question.beta)
        return score(probs, jnp.exp(log_weights))

    return rule


def random_rule(config: Config, key: jax.Array, question: Question) -> jax.Array:
    """Any of them."""
    return queries.random_scores(key, (question.options.shape[0],))


def disagreement_rule(config: Config, key: jax.Array, question: Question) -> jax.Array:
    """Of a small ensemble drawn from the posterior."""
    members = posteriors.draw_particles(key, question.particles, config.members)
    probs = queries.member_probs(question.options, members, beta=question.beta)
    return queries.disagreement(probs, jnp.full(config.members, 1 / config.members))


def d_optimal_rule(config: Config, key: jax.Array, question: Question) -> jax.Array:
    """At the estimate."""
    return queries.d_optimal(*information(question), question.covariance)


def far_rule(
    config: Config, key: jax.Array, question: Question, *, among: Rule, share: float
) -> jax.Array:
    """`among` the share of the pool whose items differ most."""
    distances = jnp.linalg.norm(question.options[:, 1] - question.options[:, 0], axis=-1)
    kept = max(round(share * len(distances)), 1)
    far = distances >= jnp.sort(distances)[-kept]
    return jnp.where(far, among(config, key, question), -1.0)


entropy_rule = of_posterior(queries.entropy_of_mean)

RULES: dict[str, Rule] = {
    RANDOM: random_rule,
    "entropy": entropy_rule,
    "volume removal": of_posterior(queries.volume_removal),
    "disagreement": disagreement_rule,
    "mutual information": of_posterior(queries.mutual_information),
    "D-optimal": d_optimal_rule,
}
RIVALS: dict[str, Rule] = {
    "random, far half": partial(far_rule, among=random_rule, share=1 / 2),
    "farthest": partial(far_rule, among=random_rule, share=0.0),
    "entropy, far half": partial(far_rule, among=entropy_rule, share=1 / 2),
    "entropy, far quarter": partial(far_rule, among=entropy_rule, share=1 / 4),
    "entropy, far eighth": partial(far_rule, among=entropy_rule, share=1 / 8),
}
ASKED = RULES | RIVALS
