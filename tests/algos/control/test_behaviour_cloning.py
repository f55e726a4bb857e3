"""Clones: the closed form and the likelihood's gradient, mixing, the constant of the rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import sft
from rlhf_jax.algos.control.behaviour_cloning import action_counts, clone_counts, fit, mixed_policy
from rlhf_jax.algos.planning.reward_newton import fit_rewards
from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.exact.finite_mdp import occupancy, trajectory_kl
from rlhf_jax.policies.linear import linear_policy
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import Trajectory

STATES, ACTIONS = 3, 4
SIZES = {"num_observations": STATES, "num_actions": ACTIONS}


def demonstrations() -> Trajectory:
    rng = np.random.default_rng(0)
    states, actions = rng.integers(0, 2, (6, 2)), rng.integers(0, ACTIONS, (6, 2))
    mask = np.ones((6, 2), bool)
    mask[4, 1] = False
    return Trajectory(*(jnp.asarray(x) for x in (states, actions, mask)))


def test_counts_by_hand():
    demos = Trajectory(
        jnp.array([[0, 1], [0, 1]]), jnp.array([[2, 0], [2, 3]]), jnp.array([[1, 1], [1, 0]], bool)
    )
    counts = action_counts(demos, **SIZES)
    np.testing.assert_array_equal(counts, [[0, 0, 2, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    expected = np.array([[1, 1, 3, 1], [2, 1, 1, 1], [1, 1, 1, 1]]) / np.array([[6], [5], [4]])
    np.testing.assert_allclose(np.exp(clone_counts(counts)), expected, rtol=1e-6)


def test_the_closed_form_is_the_maximum_of_the_regularised_likelihood():
    """-log pi(a | s) of every pair, once, is the regulariser: as if it had been shown once more.

    The loss is that of fine-tuning, its gradient in the logits vanishes, and it is convex in them.
    """
    demos = demonstrations()
    counts = action_counts(demos, **SIZES)
    states, actions = jnp.meshgrid(jnp.arange(STATES), jnp.arange(ACTIONS), indexing="ij")
    everything = Trajectory(
        jnp.concatenate([demos.inputs.ravel(), states.ravel()]),
        jnp.concatenate([demos.actions.ravel(), actions.ravel()]),
        jnp.concatenate([demos.mask.ravel(), jnp.ones(STATES * ACTIONS, bool)]),
    )
    objective = sft.make_objective(tabular_policy(STATES, ACTIONS))
    slope = jax.jit(jax.grad(lambda params: objective(params, everything)[0].value()))
    np.testing.assert_allclose(slope(clone_counts(counts)), 0.0, atol=1e-7)
    assert float(jnp.max(jnp.abs(slope(jnp.log(counts + 2.0))))) > 1e-3


def test_a_mixed_policy_rules_nothing_out():
    policy = tabular_policy(1, 3)
    params = jnp.array([[0.0, 1.0, 200.0]])
    state = jnp.zeros((1,), int)
    mixed = mixed_policy(policy, kappa=0.1)
    probs = np.exp(mixed.logits(params, state)[0])
    np.testing.assert_allclose(probs, [0.1 / 3, 0.1 / 3, 0.9 + 0.1 / 3], rtol=1e-6)
    chosen = mixed.logps(params, state, jnp.array([2]))
    np.testing.assert_allclose(chosen, np.log(probs[2:]), rtol=1e-5)
    plain = mixed_policy(policy, kappa=0.0).logits(params, state)
    np.testing.assert_allclose(plain, jax.nn.log_softmax(params), rtol=1e-6)
    uniform = mixed_policy(policy, kappa=1.0).logits(params, state)
    np.testing.assert_allclose(uniform, -np.log(3.0), rtol=1e-6)


@pytest.mark.long
def test_a_log_linear_class_with_a_feature_for_each_pair_finds_the_frequencies():
    """Without mixing the fit is n(s, a) / n(s), the loss falls, and the gradient ends at zero."""
    counts = np.array([[3, 1, 2], [1, 1, 4]])
    states, actions = np.indices(counts.shape)
    demos = Trajectory(
        jnp.asarray(np.repeat(states.ravel(), counts.ravel())),
        jnp.asarray(np.repeat(actions.ravel(), counts.ravel())),
        jnp.ones(counts.sum(), bool),
    )
    policy = linear_policy(jnp.eye(6).reshape(2, 3, 6))
    run = jax.jit(lambda start: fit(policy, start, demos, optimizer=optax.sgd(2.0), steps=300))
    params, metrics = run(jnp.zeros(6))
    probs = np.exp(jax.nn.log_softmax(policy.logits(params, jnp.arange(2))))
    np.testing.assert_allclose(probs, counts / counts.sum(1, keepdims=True), rtol=1e-4)
    loss = metrics["loss"].value()
    assert loss[-1] < loss[0]


@pytest.mark.long
def test_the_constant_of_the_rate():
    """N KL_traj(expert || clone) goes to (A - 1) / 2 for each (h, s) that the expert reaches.

    Counts are multinomial given the visits; 400 data sets of N = 4000 episodes.
    """
    rng = np.random.default_rng(1)
    horizon, states, actions, episodes = 2, 2, 3, 4_000
    transitions = np.zeros((horizon, states, actions, states))
    transitions[:, 0, :2, 0] = transitions[:, :, 2, 1] = 1.0
    transitions[:, 1, :2, 1] = 1.0
    expert = rng.dirichlet(np.ones(actions) * 3, size=(horizon, states))
    with jax.enable_x64(True):
        mdp = FiniteMDP(
            jnp.asarray(transitions), jnp.zeros((horizon, states, actions)), jnp.array([1.0, 0.0])
        )
        logps = jnp.log(expert)
        laws = np.asarray(occupancy(mdp, logps))
        counts = np.stack(
            [
                [rng.multinomial(round(episodes * laws[i]), expert[i]) for i in np.ndindex(2, 2)]
                for _ in range(400)
            ]
        ).reshape(400, horizon, states, actions)
        kl = jax.vmap(lambda n: trajectory_kl(mdp, logps, clone_counts(n)))(
            jnp.asarray(counts, float)
        )
        reached = (laws > 0).sum()
        assert reached == 3  # the second state is not the first step's
        limit = (actions - 1) / 2 * reached
        np.testing.assert_allclose(episodes * np.mean(kl), limit, rtol=0.08)


@pytest.mark.long
def test_newton_ends_where_the_gradient_does():
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        chosen, rejected = (jnp.asarray(rng.normal(size=(40, 5))) for _ in range(2))
        found = jax.jit(lambda x, y: fit_rewards(x, y, beta=5.0, ridge=1e-2))(chosen, rejected)
        assert found.residual < 1e-10
        differences = np.asarray(chosen - rejected)
        wrong = 1 / (1 + np.exp(5.0 * differences @ np.asarray(found.params)))
        slope = -5.0 * wrong @ differences + 1e-2 * np.asarray(found.params)
        np.testing.assert_allclose(slope, 0.0, atol=1e-10)


def test_newton_by_hand_on_one_feature_and_weights():
    """One pair won twice, lost once, tiny ridge: sigmoid(beta w) = 2 / 3; weight 0 is unseen."""
    with jax.enable_x64(True):
        chosen = jnp.array([[1.0], [0.0], [7.0]])
        rejected = jnp.array([[0.0], [1.0], [0.0]])
        weights = jnp.array([2.0, 1.0, 0.0])
        found = fit_rewards(chosen, rejected, weights, beta=2.0, ridge=1e-12)
        np.testing.assert_allclose(found.params, [np.log(2.0) / 2.0], rtol=1e-9)


def test_newton_goes_as_far_as_the_ridge_allows():
    """One pair: sigmoid(-w) = 1e-14 w at w = 28.9, a Newton step for each unit."""
    with jax.enable_x64(True):
        found = fit_rewards(jnp.ones((1, 1)), jnp.zeros((1, 1)), beta=1.0, ridge=1e-14)
        assert float(found.residual) < 1e-20
