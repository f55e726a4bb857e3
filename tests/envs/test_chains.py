"""Chains against values worked out by hand."""

import jax
import numpy as np
import pytest

from rlhf_jax.envs.chains import chain, combination_lock
from rlhf_jax.envs.tabular_mdp import check_mdp
from rlhf_jax.exact.finite_mdp import optimal


def test_the_rewards_of_a_chain_lie_at_its_ends():
    mdp = chain(horizon=3, num_states=2, slip=0.1, bait=0.05)
    check_mdp(mdp)
    np.testing.assert_allclose(mdp.transitions[0, 0], [[1.0, 0.0], [0.1, 0.9]], atol=1e-7)
    np.testing.assert_allclose(mdp.transitions[2, 1], [[1.0, 0.0], [0.1, 0.9]], atol=1e-7)
    np.testing.assert_allclose(mdp.rewards[1], [[0.05, 0.0], [0.0, 1.0]], atol=1e-7)
    # From the right end, last step: 1. Before: 1 + 0.9 * 1 + 0.1 * 0.05. From the left, go right.
    values = np.asarray(optimal(mdp).values)
    later = 1 + 0.9 + 0.1 * 0.05
    last_left = max(0.05 + 0.05, 0.1 * 0.05 + 0.9 * 1)
    np.testing.assert_allclose(values[2], [0.05, 1.0], rtol=1e-6)
    np.testing.assert_allclose(values[1], [last_left, later], rtol=1e-6)
    np.testing.assert_allclose(values[0, 0], 0.9 * later + 0.1 * last_left, rtol=1e-6)


@pytest.mark.long
def test_only_the_combination_opens_the_lock():
    mdp = combination_lock(jax.random.key(1), horizon=4, num_actions=5)
    check_mdp(mdp)
    rewards, transitions = np.asarray(mdp.rewards), np.asarray(mdp.transitions)
    on = transitions[0, np.arange(3), :, np.arange(1, 4)]
    np.testing.assert_allclose(np.sort(on, axis=1)[:, -1], 0.97, rtol=1e-6)
    assert (np.sort(on, axis=1)[:, :-1] == 0).all()
    # Whatever is tried in the last state but one, the next is the bait's.
    np.testing.assert_array_equal(transitions[:, 3:, :, 4], 1.0)
    assert (rewards[0, 3] == 1).sum() == 1
    assert rewards[:, :3].sum() == 0
    np.testing.assert_allclose(rewards[:, 4], 0.05)
    # 0.97^3, and what is left of the bait after a failure at step 1, 2 or 3.
    bait = 0.05 * 0.03 * (3 + 0.97 * 2 + 0.97**2)
    np.testing.assert_allclose(optimal(mdp).values[0, 0], 0.97**3 + bait, rtol=1e-6)


def test_a_bait_that_pays_more_is_taken():
    """Failing at once earns the bait at every step but the first."""
    mdp = combination_lock(jax.random.key(0), horizon=4, num_actions=3, success=0.5, bait=0.5)
    np.testing.assert_allclose(optimal(mdp).values[0, 0], 3 * 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: chain(horizon=0, num_states=3), "horizon >= 1"),
        (lambda: chain(horizon=2, num_states=1), "num_states >= 2"),
        (lambda: chain(horizon=2, num_states=3, slip=1.5), "slip and bait must be in"),
        (lambda: combination_lock(jax.random.key(0), horizon=0, num_actions=2), "got 0 and 2"),
        (
            lambda: combination_lock(jax.random.key(0), horizon=2, num_actions=2, success=-0.1),
            "success and bait must be in",
        ),
    ],
)
def test_what_is_no_chain_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
