"""Closed forms of regularised bandits, and the sampled losses' population forms against them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import ppo, preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import all_actions, bandit_trajectory, preference_matrix, random_bandit
from rlhf_jax.exact.bandit import ipo_rewards, regularised_optimum, total_variation
from rlhf_jax.losses.preference import dpo_loss, ipo_loss
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.policies.tabular import tabular_policy, tabular_value
from rlhf_jax.types import PreferenceBatch

STATES, ACTIONS, BETA = 2, 4, 0.8
BANDIT = random_bandit(jax.random.key(0), num_states=STATES, num_actions=ACTIONS)
POLICY = tabular_policy(STATES, ACTIONS)


@partial(jax.jit, static_argnames="beta")
def objective(logits, beta):
    """E_pi[r] - beta KL(pi || pi_ref) in each state."""
    rewards = jnp.sum(jax.nn.softmax(logits) * BANDIT.rewards, axis=-1)
    return rewards - beta * exact_kl(logits, BANDIT.ref_logits)


def test_regularised_optimum_golden_numbers():
    ref_logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    rewards = 2.0 * jnp.log(jnp.array([1.0, 2.0, 4.0]))
    # exp(r / 2) = 1, 2, 4: weights 0.5, 0.5, 1 over Z = 2
    optimum = regularised_optimum(rewards, ref_logits, beta=2.0)
    np.testing.assert_allclose(jnp.exp(optimum), [0.25, 0.25, 0.5], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_regularised_optimum_beats_every_perturbation(beta):
    optimum = regularised_optimum(BANDIT.rewards, BANDIT.ref_logits, beta=beta)
    best = objective(optimum, beta)
    scales = jnp.geomspace(0.05, 5.0, 300)[:, None, None]
    noise = scales * jax.random.normal(jax.random.key(1), (300, STATES, ACTIONS))
    assert bool(jnp.all(jax.vmap(lambda x: objective(x, beta))(optimum + noise) < best))
    # the optimal value is beta log Z, and it is stationary
    log_z = jax.nn.logsumexp(jax.nn.log_softmax(BANDIT.ref_logits) + BANDIT.rewards / beta, -1)
    np.testing.assert_allclose(best, beta * log_z, rtol=1e-5)
    slope = jax.grad(lambda x: jnp.sum(objective(x, beta)))(optimum)
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)


def test_regularised_optimum_in_its_limits():
    ref_logps = jax.nn.log_softmax(BANDIT.ref_logits)
    timid = regularised_optimum(BANDIT.rewards, BANDIT.ref_logits, beta=1e6)
    np.testing.assert_allclose(timid, ref_logps, atol=1e-5)
    greedy = regularised_optimum(BANDIT.rewards, BANDIT.ref_logits, beta=1e-3)
    np.testing.assert_array_equal(jnp.argmax(greedy, -1), jnp.argmax(BANDIT.rewards, -1))
    np.testing.assert_allclose(jnp.max(greedy, -1), 0.0, atol=1e-6)
    shifted = regularised_optimum(BANDIT.rewards + 5.0, BANDIT.ref_logits - 3.0, beta=0.5)
    plain = regularised_optimum(BANDIT.rewards, BANDIT.ref_logits, beta=0.5)
    np.testing.assert_allclose(shifted, plain, atol=1e-5)


def test_regularised_optimum_never_takes_what_the_reference_forbids():
    ref_logits = BANDIT.ref_logits.at[:, 1].set(-jnp.inf)
    optimum = jnp.exp(regularised_optimum(BANDIT.rewards, ref_logits, beta=BETA))
    np.testing.assert_array_equal(optimum[:, 1], 0.0)
    np.testing.assert_allclose(optimum.sum(-1), 1.0, rtol=1e-6)


def test_total_variation_golden_numbers():
    one, other = jnp.log(jnp.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]))
    np.testing.assert_allclose(total_variation(one, other), 0.3, rtol=1e-5)
    apart = jnp.log(jnp.eye(2))
    np.testing.assert_array_equal(total_variation(apart, apart[::-1]), 1.0)


def test_ipo_rewards_golden_numbers():
    prefs = jnp.array([[0.5, 0.9], [0.1, 0.5]])
    # 0.25 * 0.5 + 0.75 * 0.9, 0.25 * 0.1 + 0.75 * 0.5
    rewards = ipo_rewards(prefs, jnp.array([0.25, 0.75]))
    np.testing.assert_allclose(rewards, [0.8, 0.4], rtol=1e-6)


def population(prefs, behaviour_probs):
    """Every ordered pair of answers, weighted by mu(a) mu(b) P(a beats b): [S, A, A]."""
    shape = (STATES, ACTIONS, ACTIONS)
    states, first, second = np.indices(shape)
    batch = PreferenceBatch(
        bandit_trajectory(jnp.asarray(states), jnp.asarray(first)),
        bandit_trajectory(jnp.asarray(states), jnp.asarray(second)),
        weights=behaviour_probs[..., :, None] * behaviour_probs[..., None, :] * prefs,
    )
    return preference.attach_reference(POLICY, BANDIT.ref_logits, batch)


def train(update, make_batch, params, optimizer, steps):
    """The params after some updates in one scan; the batch may depend on them."""

    def step(state, _):
        return update(state, make_batch(state.params))[0], None

    run = jax.jit(lambda state: jax.lax.scan(step, state, length=steps)[0])
    return run(init_state(params, optimizer)).params


def adam(steps):
    return optax.adam(optax.cosine_decay_schedule(0.1, steps))


def assert_reached(params, optimum):
    """Within 1e-5 of the closed form, after a start that was far from it."""
    assert float(jnp.min(total_variation(jax.nn.log_softmax(BANDIT.ref_logits), optimum))) > 0.05
    distance = total_variation(jax.nn.log_softmax(params), optimum)
    np.testing.assert_allclose(distance, 0.0, atol=1e-5)


@pytest.mark.long
def test_population_dpo_reaches_the_closed_form():
    """Bradley-Terry labels, any full-support behaviour policy."""
    behaviour_probs = jax.nn.softmax(jax.random.normal(jax.random.key(2), (STATES, ACTIONS)))
    batch = population(preference_matrix(BANDIT.rewards), behaviour_probs)
    optimizer = adam(600)
    update = preference.make_update(POLICY, optimizer, partial(dpo_loss, beta=BETA))
    params = train(update, lambda _: batch, BANDIT.ref_logits, optimizer, 600)
    assert_reached(params, regularised_optimum(BANDIT.rewards, BANDIT.ref_logits, beta=BETA))


def test_population_ipo_reaches_the_closed_form_of_its_own_reward():
    """Intransitive preferences, which no reward explains, and beta = 0.3."""
    gaps = jax.random.normal(jax.random.key(3), (STATES, ACTIONS, ACTIONS))
    prefs = jax.nn.sigmoid(gaps - jnp.swapaxes(gaps, -1, -2))
    behaviour_probs = jax.nn.softmax(jax.random.normal(jax.random.key(4), (STATES, ACTIONS)))
    batch = population(prefs, behaviour_probs)
    optimizer = adam(600)
    update = preference.make_update(POLICY, optimizer, partial(ipo_loss, beta=0.3))
    params = train(update, lambda _: batch, BANDIT.ref_logits, optimizer, 600)
    rewards = ipo_rewards(prefs, behaviour_probs)
    assert_reached(params, regularised_optimum(rewards, BANDIT.ref_logits, beta=0.3))


@pytest.mark.long
@pytest.mark.parametrize("clip_eps", [0.2, float("inf")])
def test_population_ppo_reaches_the_closed_form(clip_eps):
    """Every answer weighted by its probability under the policy at the start of each update."""
    states, actions = all_actions(STATES, ACTIONS)
    trajectory = bandit_trajectory(states, actions)
    ref_logps = POLICY.logps(BANDIT.ref_logits, trajectory.inputs, trajectory.actions)
    config = ppo.PPOConfig(
        beta=BETA, clip_eps=clip_eps, value_coef=0.0, gae_lambda=1.0, whiten_advantages=False
    )
    optimizer = adam(600)
    update = ppo.make_update(POLICY, tabular_value(STATES), optimizer, config)

    def make_batch(params):
        old_logps = POLICY.logps(params.policy, trajectory.inputs, trajectory.actions)
        return ppo.make_batch(
            trajectory,
            BANDIT.rewards,
            old_logps=old_logps,
            ref_logps=ref_logps,
            old_values=jnp.zeros_like(old_logps),
            config=config,
            weights=jnp.exp(old_logps[..., 0]),
        )

    start = ppo.ActorCritic(BANDIT.ref_logits, jnp.zeros(STATES))
    # On the policy that sampled, one step's gradient is that of the exact objective.
    sgd = optax.sgd(1.0)
    first = ppo.make_update(POLICY, tabular_value(STATES), sgd, config)
    state, _ = first(init_state(start, sgd), make_batch(start))
    slope = jax.grad(lambda x: jnp.mean(objective(x, BETA)))(BANDIT.ref_logits)
    np.testing.assert_allclose(state.params.policy - BANDIT.ref_logits, slope, atol=1e-6)

    params = train(update, make_batch, start, optimizer, 600)
    optimum = regularised_optimum(BANDIT.rewards, BANDIT.ref_logits, beta=BETA)
    assert_reached(params.policy, optimum)
