"""The optimum under a limit: by hand, its multiplier, and every dual rule against it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.exact.constrained import constrained_optimum
from rlhf_jax.ops.constraints import (
    lagrangian_beta,
    lagrangian_scores,
    log_gradient_multipliers,
    mirror_multipliers,
    pid_multipliers,
    pid_start,
    projected_multipliers,
)

KEYS = jax.random.split(jax.random.key(0), 3)
REWARDS, COSTS, REF = (jax.random.normal(key, (3, 5)) for key in KEYS)
PROBS = jnp.array([0.5, 0.3, 0.2])
BETA, TAU = 0.7, -1.65


def solve(threshold=TAU, **options):
    return constrained_optimum(
        REWARDS, COSTS, REF, PROBS, beta=BETA, threshold=threshold, **options
    )


def test_two_actions_by_hand():
    # p = sigmoid((1 - lambda) / beta) with reward = cost = (1, 0); p = 0.25 at lambda = 1 + b ln 3
    table = jnp.array([[1.0, 0.0]])
    found = constrained_optimum(
        table, table, jnp.zeros((1, 2)), jnp.ones(1), beta=0.5, threshold=0.25
    )
    assert float(found.multiplier) == pytest.approx(1.0 + 0.5 * np.log(3.0), rel=1e-5)
    np.testing.assert_allclose(jnp.exp(found.logps), [[0.25, 0.75]], rtol=1e-5)


def test_the_limit_is_met_with_equality_or_does_not_bind():
    with jax.enable_x64(True):
        found = solve()
        assert float(found.cost) == pytest.approx(TAU, abs=1e-6)
        free = solve(threshold=5.0)
        assert float(free.multiplier) == 0.0
        np.testing.assert_allclose(free.logps, regularised_optimum(REWARDS, REF, beta=BETA))
        assert np.isnan(solve(threshold=-50.0).multiplier)


def test_the_cost_falls_in_the_multiplier_at_the_rate_of_its_variance():
    with jax.enable_x64(True):

        def cost(multiplier):
            probs = jnp.exp(regularised_optimum(REWARDS - multiplier * COSTS, REF, beta=BETA))
            return PROBS @ jnp.sum(probs * COSTS, -1)

        probs = jnp.exp(regularised_optimum(REWARDS - 0.8 * COSTS, REF, beta=BETA))
        means = jnp.sum(probs * COSTS, -1)
        variances = jnp.sum(probs * COSTS**2, -1) - means**2
        slope = jax.grad(cost)(0.8)
        assert float(slope) == pytest.approx(-float(PROBS @ variances) / BETA, rel=1e-4)


def test_no_other_policy_under_the_limit_is_better():
    found = solve()
    best = regularised_value(found.logps)
    for seed in range(20):
        other = jax.nn.log_softmax(
            found.logps + 0.3 * jax.random.normal(jax.random.key(seed), (3, 5))
        )
        # On the way back to the reference's cheapest policy until the limit holds.
        cheap = regularised_optimum(-10.0 * COSTS, REF, beta=BETA)
        share = share_within(other, cheap)
        mixed = jnp.log(share * jnp.exp(other) + (1.0 - share) * jnp.exp(cheap))
        assert cost_of(mixed) <= TAU + 1e-5
        assert regularised_value(mixed) < best


def cost_of(logps):
    return float(PROBS @ jnp.sum(jnp.exp(logps) * COSTS, -1))


def share_within(logps, cheap):
    high, low = cost_of(logps), cost_of(cheap)
    return 1.0 if high <= TAU else (TAU - low) / (high - low)


def regularised_value(logps):
    probs = jnp.exp(logps)
    gain = REWARDS - BETA * (logps - jax.nn.log_softmax(REF))
    return float(PROBS @ jnp.sum(probs * gain, -1))


RULES = {
    "projected": partial(projected_multipliers, rate=1.0),
    "log gradient": partial(log_gradient_multipliers, rate=1.0),
    "mirror": partial(mirror_multipliers, rate=1.0),
}


def reached(step, start):
    """The multiplier and the policy's law, the policy's best reply alternating with a dual step."""

    def one(state, _):
        multipliers, dual = state
        scores = lagrangian_scores(REWARDS, COSTS[None], multipliers)
        logps = regularised_optimum(scores, REF, beta=lagrangian_beta(BETA, multipliers))
        cost = PROBS @ jnp.sum(jnp.exp(logps) * COSTS, -1)
        return step(multipliers, dual, cost[None] - TAU), logps

    (multipliers, _), logps = jax.lax.scan(one, (jnp.full(1, 0.5), start), length=400)
    return multipliers[0], logps[-1]


@pytest.mark.parametrize("name", RULES)
def test_every_rule_ends_at_the_closed_form(name):
    def step(multipliers, dual, violations):
        return RULES[name](multipliers, violations), dual

    multiplier, logps = reached(step, ())
    known = solve()
    assert float(multiplier) == pytest.approx(float(known.multiplier), rel=1e-3)
    np.testing.assert_allclose(logps, known.logps, atol=1e-3)


def test_pid_ends_at_the_closed_form():
    def step(multipliers, dual, violations):
        return pid_multipliers(dual, violations, proportional=0.5, rate=1.0, derivative=0.1)

    multiplier, _ = reached(step, pid_start(jnp.full(1, 0.5)))
    assert float(multiplier) == pytest.approx(float(solve().multiplier), rel=1e-3)
