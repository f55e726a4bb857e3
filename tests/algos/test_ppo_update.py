"""PPO's batch and update: by hand, in the limit of REINFORCE, under padding, bad configs."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import ppo
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.ops.masking import masked_mean
from rlhf_jax.ops.segments import SegmentRewards, token_rewards
from rlhf_jax.policies.tabular import tabular_policy, tabular_value
from rlhf_jax.types import Trajectory

STATES, ACTIONS, STEPS = 3, 4, 3
POLICY, VALUE = tabular_policy(STATES, ACTIONS), tabular_value(STATES)
SGD = optax.sgd(1.0)
PLAIN = ppo.PPOConfig(beta=0.3, gamma=1.0, gae_lambda=1.0, whiten_advantages=False, value_coef=0.0)


def rollout():
    """Answers of lengths 1 to 3 with their scores, log-probs and values."""
    rng = np.random.default_rng(0)
    ids = [jnp.asarray(rng.integers(0, n, (6, STEPS))) for n in (STATES, ACTIONS)]
    mask = jnp.asarray(np.arange(STEPS) < np.array([[1], [2], [3], [3], [2], [1]]))
    scores = jnp.asarray(rng.standard_normal(6), jnp.float32)
    params = jnp.asarray(rng.standard_normal((STATES, ACTIONS)), jnp.float32)
    logps = jax.jit(POLICY.logps)
    trajectory = Trajectory(*ids, mask)
    data = {
        "old_logps": logps(params, *ids),
        "ref_logps": logps(0.5 * params, *ids),
        "old_values": jnp.asarray(rng.standard_normal((6, STEPS)), jnp.float32),
    }
    return params, trajectory, scores, data


def test_make_batch_golden_numbers():
    mask = jnp.array([[1, 1, 0]], bool)
    ids = jnp.zeros((1, 3), jnp.int32)
    nan = jnp.nan
    batch = ppo.make_batch(
        Trajectory(ids, ids, mask),
        jnp.array([2.0]),
        old_logps=jnp.array([[-1.0, -2.0, nan]]),
        ref_logps=jnp.array([[-2.0, -1.0, nan]]),
        old_values=jnp.array([[0.5, 1.0, nan]]),
        config=replace(PLAIN, beta=0.5, gae_lambda=0.5),
    )
    # rewards -0.5 * 1, 2 - 0.5 * -1 = -0.5, 2.5; deltas -0.5 + 1 - 0.5 = 0, 2.5 - 1 = 1.5
    # advantages 0 + 0.5 * 1.5, 1.5; returns are these plus the values
    np.testing.assert_allclose(batch.advantages, [[0.75, 1.5, 0.0]])
    np.testing.assert_allclose(batch.returns, [[1.25, 2.5, 0.0]])


def test_rewards_of_tokens_golden_numbers():
    mask, nan = jnp.array([[1, 1, 1, 0]], bool), jnp.nan
    ids = jnp.zeros((1, 4), jnp.int32)
    batch = ppo.make_token_batch(
        Trajectory(ids, ids, mask),
        jnp.array([[1.0, 0.0, -2.0, nan]]),
        old_logps=jnp.array([[-1.0, -1.0, -1.0, nan]]),
        ref_logps=jnp.array([[-1.5, -1.0, -1.0, nan]]),
        old_values=jnp.array([[0.0, 0.5, 1.0, nan]]),
        config=replace(PLAIN, beta=1.0, gae_lambda=0.5),
    )
    # rewards 1 - 0.5, 0, -2; deltas 0.5 + 0.5, 1 - 0.5, -2 - 1
    # advantages 1 + 0.5 * -1, 0.5 + 0.5 * -3, -3
    np.testing.assert_allclose(batch.advantages, [[0.5, -1.0, -3.0, 0.0]])
    np.testing.assert_allclose(batch.returns, [[0.5, -0.5, -2.0, 0.0]])
    np.testing.assert_array_equal(batch.weights, [1.0])


def test_one_head_on_the_whole_answer_is_the_score_at_the_end_bit_for_bit():
    _, trajectory, scores, data = rollout()
    last = trajectory.mask.sum(-1, keepdims=True) - 1
    head = SegmentRewards(last, scores[:, None], jnp.ones(last.shape, bool))
    placed = token_rewards({"whole": head}, {"whole": 1.0}, length=STEPS)
    one = ppo.make_token_batch(trajectory, placed, **data, config=ppo.PPOConfig())
    other = ppo.make_batch(trajectory, scores, **data, config=ppo.PPOConfig())
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_an_answer_with_a_token_reward_that_is_not_finite_has_weight_0():
    _, trajectory, _, data = rollout()
    rewards = jnp.zeros((6, STEPS)).at[2, 0].set(jnp.nan).at[0, 2].set(jnp.nan)
    batch = ppo.make_token_batch(trajectory, rewards, **data, config=ppo.PPOConfig())
    # Answer 0 has one counted token: its NaN is padding.
    np.testing.assert_array_equal(batch.weights, [1, 1, 0, 1, 1, 1])
    assert np.isfinite(batch.advantages).all()


@pytest.mark.long
@pytest.mark.parametrize(
    ("gae_lambda", "advantages"),
    [(1.0, [1, 1, 0, 0, 1, 1]), (0.5, [1 / 8, 1 / 4, 0, 0, 1 / 2, 1])],
)
def test_the_score_reaches_the_tokens_before_a_tools(gae_lambda, advantages):
    """Score 1, values 0: lambda to the number of counted steps that follow."""
    mask = jnp.array([[1, 1, 0, 0, 1, 1]], bool)
    ids, zeros = jnp.zeros((1, 6), jnp.int32), jnp.where(mask, 0.0, jnp.nan)
    batch = ppo.make_batch(
        Trajectory(ids, ids, mask, valid=mask | True),
        jnp.array([1.0]),
        old_logps=zeros,
        ref_logps=zeros,
        old_values=zeros,
        config=replace(PLAIN, beta=0.0, gae_lambda=gae_lambda),
    )
    np.testing.assert_allclose(batch.advantages, [advantages])
    np.testing.assert_allclose(batch.returns, [advantages])


@pytest.mark.long
def test_reduces_to_reinforce_with_reward_to_go():
    """lambda = gamma = 1, V = 0, no whitening, on the policy that sampled."""
    params, trajectory, scores, data = rollout()
    data["old_values"] = jnp.zeros_like(data["old_values"])
    batch = ppo.make_batch(trajectory, scores, **data, config=PLAIN)
    mask = np.asarray(trajectory.mask)
    penalties = np.where(mask, -0.3 * (data["old_logps"] - data["ref_logps"]), 0.0)
    to_go = np.cumsum(penalties[:, ::-1], 1)[:, ::-1] + np.asarray(scores)[:, None]
    to_go = jnp.asarray(np.where(mask, to_go, 0.0), jnp.float32)
    np.testing.assert_allclose(batch.advantages, to_go, atol=1e-6)

    def surrogate(params):
        logps = POLICY.logps(params, trajectory.inputs, trajectory.actions)
        return masked_mean(reinforce_loss(logps, to_go), trajectory.mask)

    update = jax.jit(ppo.make_update(POLICY, VALUE, SGD, PLAIN))
    both = ppo.ActorCritic(params, jnp.zeros(STATES))
    state, metrics = update(init_state(both, SGD), batch)
    np.testing.assert_allclose(
        params - state.params.policy, jax.jit(jax.grad(surrogate))(params), atol=1e-6
    )
    np.testing.assert_array_equal(state.params.value, 0.0)  # value_coef = 0
    np.testing.assert_allclose(metrics["kl/old"].value(), 0.0, atol=1e-10)
    assert metrics["ratios/clipped"].value() == 0.0


@pytest.mark.long
def test_padding_never_changes_a_batch():
    """Longer rows, NaN beyond the end: the same advantages and returns."""
    _, trajectory, scores, data = rollout()
    config = ppo.PPOConfig()
    batch = ppo.make_batch(trajectory, scores, **data, config=config)
    mask = jnp.pad(trajectory.mask, ((0, 0), (0, 2)))
    longer = [jnp.pad(x, ((0, 0), (0, 2))) for x in (trajectory.inputs, trajectory.actions)]
    padded = {
        name: jnp.where(mask, jnp.pad(x, ((0, 0), (0, 2))), jnp.nan) for name, x in data.items()
    }
    other = ppo.make_batch(Trajectory(*longer, mask), scores, **padded, config=config)
    for name in ("advantages", "returns", "old_values"):
        short, long = getattr(batch, name), getattr(other, name)
        np.testing.assert_allclose(long[:, :STEPS], short, rtol=1e-6)
        np.testing.assert_array_equal(long[:, STEPS:], 0.0)


def test_the_critic_regresses_on_the_returns():
    """Small steps on 0.5 (V - G)^2 end at the mean return of each state."""
    params, trajectory, scores, data = rollout()
    config = replace(PLAIN, value_coef=1.0, value_clip_eps=jnp.inf)
    batch = ppo.make_batch(trajectory, scores, **data, config=config)
    optimizer = optax.multi_transform(
        {"policy": optax.set_to_zero(), "value": optax.sgd(1.0)},
        ppo.ActorCritic("policy", "value"),
    )
    update = ppo.make_update(POLICY, VALUE, optimizer, config)
    state = init_state(ppo.ActorCritic(params, jnp.zeros(STATES)), optimizer)
    state, _ = jax.lax.scan(lambda state, _: (update(state, batch)[0], None), state, length=100)
    mask = trajectory.mask
    expected = [
        masked_mean(batch.returns, mask & (trajectory.inputs == state)) for state in range(STATES)
    ]
    np.testing.assert_allclose(state.params.value, expected, atol=1e-5)
    np.testing.assert_array_equal(state.params.policy, params)


def test_whitening_makes_the_policy_step_blind_to_the_scale_of_rewards():
    params, trajectory, scores, data = rollout()
    config = ppo.PPOConfig(value_coef=0.0)
    batch = ppo.make_batch(trajectory, scores, **data, config=config)
    scaled = replace(batch, advantages=10.0 * batch.advantages + 3.0)
    update = jax.jit(ppo.make_update(POLICY, VALUE, SGD, config))
    state = init_state(ppo.ActorCritic(params, jnp.zeros(STATES)), SGD)
    step, scaled_step = (update(state, each)[0].params.policy for each in (batch, scaled))
    np.testing.assert_allclose(scaled_step, step, atol=1e-5)
    assert not np.allclose(step, params)


def test_metrics_count_the_clipped_steps():
    params, trajectory, scores, data = rollout()
    batch = ppo.make_batch(trajectory, scores, **data, config=PLAIN)
    shift = jnp.where(jnp.arange(STEPS) == 0, np.log(1.5), 0.0)  # the first step of six rows
    batch = replace(batch, old_logps=batch.old_logps - shift)
    update = jax.jit(ppo.make_update(POLICY, VALUE, SGD, PLAIN))
    _, metrics = update(init_state(ppo.ActorCritic(params, jnp.zeros(STATES)), SGD), batch)
    np.testing.assert_allclose(metrics["ratios/clipped"], (6.0, 12.0))
    np.testing.assert_allclose(metrics["kl/old"].total, 6 * 0.5 * np.log(1.5) ** 2, rtol=1e-4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("beta", -0.1),
        ("clip_eps", 0.0),
        ("value_clip_eps", -1.0),
        ("value_coef", -0.5),
        ("gamma", 1.1),
        ("gae_lambda", -0.01),
        ("value_coef", float("nan")),
        ("beta", float("inf")),
    ],
)
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(ValueError, match=rf"^{option} must .*got {value}"):
        ppo.PPOConfig(**{option: value})


@pytest.mark.long
def test_beta_may_be_traced():
    _, trajectory, scores, data = rollout()
    make = partial(ppo.make_batch, trajectory, scores, **data)

    def advantages(beta):
        return make(config=ppo.PPOConfig(beta=beta)).advantages

    swept = jax.vmap(advantages)(jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(swept[1], advantages(0.5), rtol=1e-5, atol=1e-6)
    assert not np.allclose(swept[0], swept[1])
