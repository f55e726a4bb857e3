"""P[Love] of a product, what policies do with it, and how well it predicts them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key
from numpy.typing import ArrayLike

from experiments.rluf.config import Config
from experiments.rluf.product import (
    Logs,
    Messages,
    draw_candidates,
    draw_logs,
    draw_messages,
    live_probs,
    love_features,
)
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.feedback.signals import reactions
from rlhf_jax.losses.feedback import binary_loss
from rlhf_jax.ops.aggregate import weighted_rewards
from rlhf_jax.ops.constraints import lagrangian_scores, projected_multipliers
from rlhf_jax.ops.ensembles import member_scale, standardised_scores
from rlhf_jax.ops.linear_systems import solve
from rlhf_jax.ops.masking import weighted_mean
from rlhf_jax.ops.mismatch import rank_correlation
from rlhf_jax.ops.reactions import kept_reactions, prior_shifted, user_agreement
from rlhf_jax.ops.statistics import area_under_curve

NEWTON = 12  # steps of a fit from 0, beyond rounding
QUANTILES = 100  # of the fresh messages
CLOSER = 3  # place of b among the features
HELPFUL, SAFE = 0.7, 0.3  # shares of what is not love in the reward
VARIANTS = ("blind", "told", "shuffled")
MEASURES = ("predicted", "live", "help", "unsafe", "closer")


@jax.jit
def fit_love(
    features: Float[Array, "N d"], hearts: Bool[Array, "N"], weights: Float[Array, "N"]
) -> Float[Array, " d"]:
    """Logistic regression of hearts by Newton steps on `binary_loss`."""

    def objective(theta: Float[Array, " d"]) -> Float[Array, ""]:
        return weighted_mean(binary_loss(features @ theta, hearts), weights).value()

    def step(_, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        return (
            theta - solve(jax.hessian(objective)(theta), jax.grad(objective)(theta)[:, None])[:, 0]
        )

    return jax.lax.fori_loop(0, NEWTON, step, jnp.zeros(features.shape[-1]))


def measure_policy(
    candidates: Messages, scores: Float[Array, "C K"], logps: Float[Array, "C K"]
) -> Float[Array, " 5"]:
    """MEASURES of a policy: mean P[Love], live rate of hearts, and means of the features."""
    tables = [jax.nn.sigmoid(scores), live_probs(candidates)]
    tables += [candidates.help, candidates.unsafe, candidates.closer]
    return jnp.stack([jnp.sum(jnp.exp(logps) * x, axis=-1).mean() for x in tables])


def standard_rewards(candidates: Messages, scores: Float[Array, "C K"]) -> Float[Array, "C K 3"]:
    """Helpfulness, safety and log P[Love], each with mean 0 and deviation 1 over the reference's
    answers; these scales are frozen while policies change."""
    raw = jnp.stack([candidates.help, -candidates.unsafe, jax.nn.log_sigmoid(scores)])
    return jnp.moveaxis(standardised_scores(raw, member_scale(raw)), 0, -1)


def sweep(config: Config, candidates: Messages, scores: Float[Array, "C K"]) -> Float[Array, "W 5"]:
    """MEASURES of the optimum for each weight of love."""
    rewards = standard_rewards(candidates, scores)

    def one(weight: Array) -> Float[Array, " 5"]:
        shares = jnp.stack([HELPFUL * (1 - weight), SAFE * (1 - weight), weight])
        total = weighted_rewards(rewards, shares)
        logps = regularised_optimum(total, jnp.zeros_like(total), beta=config.beta)
        return measure_policy(candidates, scores, logps)

    return jax.vmap(one)(jnp.array(config.weights))


def constrained(
    config: Config, candidates: Messages, scores: Float[Array, "C K"], limits: Float[Array, " 2"]
) -> tuple[Float[Array, " 5"], Float[Array, " 2"]]:
    """MEASURES of max log P[Love] with E h and E s within limits, and the two multipliers.

    limits: of -E h and E s; infinity for none.
    """
    love = standard_rewards(candidates, scores)[..., 2]
    costs = jnp.stack([-candidates.help, candidates.unsafe])

    def policy(multipliers: Array) -> Float[Array, "C K"]:
        total = lagrangian_scores(love, costs, multipliers, normalised=False)
        return regularised_optimum(total, jnp.zeros_like(total), beta=config.beta)

    def step(_, multipliers: Array) -> Array:
        found = measure_policy(candidates, scores, policy(multipliers))
        violations = jnp.stack([-found[2], found[3]]) - limits
        violations = jnp.where(jnp.isinf(limits), -1.0, violations)
        # E s moves in hundredths: a rate of its own, in units of its limit.
        units = jnp.array([1.0, config.most_unsafe])
        return projected_multipliers(multipliers, violations / units, rate=config.dual_rate)

    multipliers = jax.lax.fori_loop(0, config.dual_steps, step, jnp.zeros(2))
    return measure_policy(candidates, scores, policy(multipliers)), multipliers


def random_arms(
    config: Config, key: Key[Array, ""], candidates: Messages, scores: Float[Array, "C K"]
) -> Float[Array, "2 A 2"]:
    """Mean P[Love] and live rate of policies with random weights of h, w, b and s; then of the same
    without the weight of b."""
    columns = jnp.stack([candidates.help, candidates.warm, candidates.closer, candidates.unsafe])
    weights = jax.random.normal(key, (config.arms, len(columns)))

    def one(row: Array) -> Float[Array, " 2"]:
        logps = jax.nn.log_softmax(jnp.tensordot(row, columns, axes=1))
        return measure_policy(candidates, scores, logps)[:2]

    both = jnp.stack([weights, weights * jnp.array([1.0, 1.0, 0.0, 1.0])])
    return jax.lax.map(jax.vmap(one), both)


def correlations(arms: Float[Array, "A 2"]) -> Float[Array, " 3"]:
    """Pearson's r, Spearman's, and the intercept of live on predicted."""
    predicted, live = arms[:, 0], arms[:, 1]
    slope = jnp.cov(predicted, live)[0, 1] / jnp.var(predicted, ddof=1)
    r = jnp.corrcoef(predicted, live)[0, 1]
    return jnp.stack([r, rank_correlation(predicted, live), live.mean() - slope * predicted.mean()])


@partial(jax.jit, static_argnames="config")
def measure_love(
    config: Config,
    key: Key[Array, ""],
    candidates: Messages,
    scores: Float[Array, "C K"],
    test_scores: Float[Array, "N"],
    hearts: Bool[Array, "N"],
) -> dict[str, Array]:
    """AUROC on fresh messages, MEASURES by weight, and how well random policies are predicted.

    quantiles: [Q, 2] mean P[Love] and share of hearts in fresh messages, by ascending score.
    """
    arms = random_arms(config, key, candidates, scores)
    order = jnp.argsort(test_scores)
    both = jnp.stack([jax.nn.sigmoid(test_scores), hearts.astype(jnp.float32)], axis=-1)
    return {
        "quantiles": both[order].reshape(QUANTILES, -1, 2).mean(1),
        "auroc": area_under_curve(test_scores, hearts),
        "rates": jnp.stack([jax.nn.sigmoid(test_scores).mean(), hearts.mean()]),
        "sweep": sweep(config, candidates, scores),
        "arms": arms,
        "correlations": jax.vmap(correlations)(arms),
    }


class Drawn(NamedTuple):
    """Logs, fresh messages of honest users with their hearts, and candidates of the policies."""

    logs: Logs
    tests: Messages
    hearts: Bool[Array, "N"]
    candidates: Messages


@partial(jax.jit, static_argnames="config")
def draw_product(config: Config, key: Key[Array, ""], share: Array | float) -> Drawn:
    """One product, with this share of trolls."""
    log_key, test_key, heart_key, candidate_key = jax.random.split(key, 4)
    tests = draw_messages(test_key, config.tests)
    hearts = reactions(heart_key, live_probs(tests)).labels
    logs = draw_logs(config, log_key, troll_share=share)
    return Drawn(logs, tests, hearts, draw_candidates(config, candidate_key))


def study_product(config: Config, key: Key[Array, ""]) -> dict[str, Array]:
    """One product: P[Love] that is not told e, one that is, and one of shuffled hearts."""
    draw_key, shuffle_key, arm_key, keep_key = jax.random.split(key, 4)
    drawn, found = draw_product(config, draw_key, 0.0), {}
    for name in VARIANTS:
        told, hearts = name == "told", drawn.logs.hearts
        hearts = jax.random.permutation(shuffle_key, hearts) if name == "shuffled" else hearts
        features = love_features(drawn.logs.messages, told=told)
        theta = fit_love(features, hearts, jnp.ones(len(hearts)))
        scores, test_scores = (
            love_features(each, told=told) @ theta for each in (drawn.candidates, drawn.tests)
        )
        given = (drawn.candidates, scores)
        measured = measure_love(config, arm_key, *given, test_scores, drawn.hearts)
        found |= {f"{name}/{each}": x for each, x in measured.items()}
        found[f"{name}/closer"] = theta[CLOSER]
        if name == "blind":
            found |= constrained_pair(config, *given)
            found["intercepts"] = fewer_messages(config, keep_key, features, hearts, theta)
    return found


@partial(jax.jit, static_argnames="config")
def constrained_pair(
    config: Config, candidates: Messages, scores: Float[Array, "C K"]
) -> dict[str, Array]:
    """With a limit on help alone, and on both."""
    most = jnp.array([jnp.inf, config.most_unsafe])
    limits = jnp.stack([jnp.full(2, -config.least_help), most], axis=-1)
    found, multipliers = jax.lax.map(partial(constrained, config, candidates, scores), limits)
    return {"constrained": found, "multipliers": multipliers}


def fewer_messages(
    config: Config,
    key: Key[Array, ""],
    features: Float[Array, "N d"],
    hearts: Bool[Array, "N"],
    full: Float[Array, " d"],
) -> Float[Array, " 3"]:
    """Intercepts of a fit without most messages that have no heart: as it is, shifted, and of the
    fit to all."""
    kept = kept_reactions(key, hearts, keep_rate=config.keep_rate)
    intercept = fit_love(features, hearts, kept.astype(jnp.float32))[0]
    shifted = prior_shifted(intercept, keep_rate=config.keep_rate)
    return jnp.stack([intercept, shifted, full[0]])


def study_trolls(config: Config, key: Key[Array, ""], share: float) -> dict[str, Array]:
    """[2] of all users and of those that the filter keeps: AUROC among honest users, MEASURES
    [2, W, 5]; shares of trolls and of honest users that the filter drops [2]."""
    drawn = draw_product(config, key, share)
    logs, read = drawn.logs, partial(love_features, told=True)
    features = read(logs.messages)
    kept = jnp.ones(len(logs.trolls), bool)
    fits = []
    for _ in range(config.filter_rounds + 1):
        fits.append(fit_love(features, logs.hearts, kept[logs.users].astype(jnp.float32)))
        agreement = user_agreement(
            logs.hearts, features @ fits[-1], logs.users, num_users=len(logs.trolls)
        )
        last, kept = kept, agreement >= config.drop_below
    measured = [
        measure_love(
            config,
            key,
            drawn.candidates,
            read(drawn.candidates) @ theta,
            read(drawn.tests) @ theta,
            drawn.hearts,
        )
        for theta in (fits[0], fits[-1])
    ]
    found = {name: jnp.stack([each[name] for each in measured]) for name in ("auroc", "sweep")}
    groups = jnp.stack([logs.trolls, ~logs.trolls])
    found["dropped"] = jnp.sum(~last & groups, -1) / jnp.maximum(jnp.sum(groups, -1), 1)
    return found


def stacked(found: Sequence[Mapping[str, ArrayLike]]) -> dict[str, np.ndarray]:
    """One array of each name, runs first."""
    return {name: np.stack([np.asarray(each[name]) for each in found]) for name in found[0]}


def product_study(config: Config) -> dict[str, np.ndarray]:
    """Everything of `study_product`, products first."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    return stacked([study_product(config, key) for key in keys])


def troll_study(config: Config) -> dict[str, np.ndarray]:
    """Everything of `study_trolls`, products first, then shares."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    found = [
        stacked([study_trolls(config, key, share) for share in config.troll_shares]) for key in keys
    ]
    return stacked(found)
