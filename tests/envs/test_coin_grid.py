"""The coin grid: where things lie, what pays, and the score of a policy by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.coin_grid import STAY, coin_grid, next_state_rewards
from rlhf_jax.envs.tabular_mdp import check_mdp
from rlhf_jax.exact.finite_mdp import evaluate, optimal, policy_return

KEY = jax.random.key(2)


def policy(actions, horizon):
    """Log-probs of an action for each step, whatever the state."""
    chosen = jax.nn.one_hot(jnp.asarray(actions), STAY + 1)[:, None]
    return jnp.log(jnp.broadcast_to(chosen, (horizon, 9, STAY + 1)))


@pytest.mark.long
def test_things_lie_apart_and_leave_both_corners_free():
    for n in range(20):
        found = coin_grid(jax.random.fold_in(KEY, n)).features
        hazard, coin, goal = (np.asarray(found[x])[:, 0] for x in ("hazard", "coin", "goal"))
        assert (hazard.sum(), coin.sum(), goal.sum()) == (7, 3, 1)
        assert (hazard + coin + goal).max() == 1
        assert goal[-1] == 1
        assert hazard[0] + coin[0] == 0


def test_it_is_an_mdp_and_the_goal_absorbs():
    grid = coin_grid(KEY)
    mdp = check_mdp(grid.mdp)
    assert mdp.transitions.shape == (24, 36, 5, 36)
    np.testing.assert_allclose(mdp.transitions[:, -1, :, -1], 1.0)
    np.testing.assert_allclose(mdp.initial, np.eye(36)[0])


def test_features_by_hand():
    found = coin_grid(KEY, size=3, hazards=7, coins=0).features
    np.testing.assert_allclose(found["dist"][:, 0], np.array([4, 3, 2, 3, 2, 1, 2, 1, 0]) / 4)
    # All but start and goal are hazards: of an edge cell the middle and one corner, of the middle
    # all four neighbours, of a corner both.
    np.testing.assert_allclose(
        found["near_hazard"][:, 0], np.array([2, 2, 2, 2, 4, 2, 2, 2, 2]) / 4
    )
    np.testing.assert_allclose(found["energy"][4], [0.3, 0.3, 0.3, 0.3, 0.0])
    assert {x.shape for x in found.values()} == {(9, 5)}


def test_the_score_of_walks_by_hand():
    grid = coin_grid(KEY, size=3, hazards=0, coins=0, slip=0.0, horizon=6)
    right, down = 3, 1
    # Four moves, three of them end off the goal.
    there = policy_return(grid.mdp, policy([right, right, down, down, STAY, STAY], 6))
    np.testing.assert_allclose(there, 1.0 - 0.03, rtol=1e-6)
    here = policy_return(grid.mdp, policy([STAY] * 6, 6))
    np.testing.assert_allclose(here, -0.06, rtol=1e-5)
    hot = coin_grid(KEY, size=3, hazards=7, coins=0, slip=0.0, horizon=6)
    walk = policy_return(hot.mdp, policy([right, right, down, down, STAY, STAY], 6))
    np.testing.assert_allclose(walk, 1.0 - 0.03 - 0.9, rtol=1e-5)


def test_a_slip_may_be_any_of_the_five_actions():
    moves = coin_grid(KEY, size=3, hazards=0, coins=0, slip=0.5).mdp.transitions[0]
    # From the first cell to the right: 0.5 + 0.1; down 0.1; two moves off the board and staying.
    np.testing.assert_allclose(moves[0, 3, [1, 3, 0]], [0.6, 0.1, 0.3], atol=1e-6)


def test_a_reward_of_next_states_and_actions():
    grid = coin_grid(KEY, size=3, hazards=0, coins=0, slip=0.0, horizon=5)
    values = grid.features["goal"] - grid.features["energy"]
    rewards = next_state_rewards(grid, values)
    assert rewards.shape == grid.mdp.rewards.shape
    np.testing.assert_allclose(rewards[0, 5, [1, STAY]], [1.0 - 0.3, 0.0], atol=1e-6)
    batch = next_state_rewards(grid, jnp.stack([values, 2 * values]))
    np.testing.assert_allclose(batch[1], 2 * batch[0], rtol=1e-6)
    # Goal reached after four moves, and stayed at for one step.
    best = optimal(replace(grid.mdp, rewards=rewards))
    np.testing.assert_allclose(best.values[0, 0], 2.0 - 4 * 0.3, rtol=1e-5)
    score = evaluate(grid.mdp, best.logps).values[0, 0]
    np.testing.assert_allclose(score, 1.0 - 0.03, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 1}, "do not fit 1 x 1 cells"),
        ({"size": 3, "hazards": 6, "coins": 2}, "6 hazards and 2 coins do not fit"),
        ({"hazards": -1}, "-1 hazards"),
        ({"slip": 1.5}, r"slip must be in \[0, 1\]"),
        ({"horizon": 0}, "horizon must be >= 1"),
    ],
)
def test_bad_grids_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        coin_grid(KEY, **options)
