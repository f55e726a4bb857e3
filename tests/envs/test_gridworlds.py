"""Gridworlds: what each cell pays, who may start where, random boards, lotteries, the cliff."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.gridworlds import (
    DELIVERY_WEIGHTS,
    cliff_grid,
    delivery_board,
    delivery_world,
    step_features,
    under_weights,
)
from rlhf_jax.envs.random_boards import Recipe, lottery_board, random_board
from rlhf_jax.envs.tabular_mdp import absorbing_states, check_mdp
from rlhf_jax.exact import discounted_mdp

UP, DOWN, LEFT, RIGHT = range(4)
# Every code, around a blank and a brick from which each can be entered.
EVERY_CODE = ((3, 1, 2, 9, 7), (4, 0, 5, 10, 6), (6, 11, 0, 8, 0))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def board(cells):
    return delivery_world(jnp.array(cells), jnp.array(DELIVERY_WEIGHTS))


@pytest.mark.long
@pytest.mark.parametrize(
    ("row", "column", "action", "reward", "lands"),
    [
        (1, 1, UP, 50, (0, 1)),  # the goal pays no gas
        (1, 0, UP, -50, (0, 0)),  # nor do sheep
        (1, 1, LEFT, 0, (1, 0)),  # coin and gas
        (1, 1, RIGHT, -2, (1, 2)),  # roadblock and gas
        (1, 1, DOWN, -3, (2, 1)),  # roadblock on brick: brick in the place of gas
        (1, 0, DOWN, -2, (2, 0)),  # brick
        (1, 4, LEFT, -1, (1, 3)),  # coin on brick
        (1, 4, UP, 50, (0, 4)),  # the goal on brick
        (1, 3, UP, -50, (0, 3)),  # sheep on brick
        (1, 4, DOWN, -1, (2, 4)),  # from brick to the ground
        (1, 4, RIGHT, -2, (1, 4)),  # bumping on brick pays brick
        (1, 2, UP, -1, (1, 2)),  # a house holds; no roadblock is paid again
        (1, 0, LEFT, -1, (1, 0)),  # nor a coin
        (1, 3, DOWN, -2, (1, 3)),  # a house on brick holds, from a coin on brick
        (0, 1, LEFT, 0, (0, 1)),  # the goal is the end
    ],
)
def test_what_each_move_pays(row, column, action, reward, lands):
    world = board(EVERY_CODE)
    state = row * 5 + column
    assert float(world.mdp.rewards[state, action]) == reward
    assert int(jnp.argmax(world.mdp.transitions[state, action])) == lands[0] * 5 + lands[1]


@pytest.mark.long
def test_the_delivery_board_by_its_counts_and_a_known_value():
    world = delivery_board()
    check_mdp(world.mdp)
    assert world.features.shape == (100, 4, 6)
    assert int((world.mdp.initial > 0).sum()) == 92
    assert int(absorbing_states(world.mdp).sum()) == 5 + 3
    values = np.asarray(discounted_mdp.optimal(world.mdp).values).reshape(10, 10)
    assert values[7, 9] == pytest.approx(50, rel=1e-12)  # a brick beside the goal
    assert values[6, 9] == pytest.approx(-2 + 0.999 * 50, rel=1e-12)  # one step of brick away
    assert values[8, 9] == 0


def test_rewards_are_features_times_weights():
    world = board(EVERY_CODE)
    np.testing.assert_array_equal(world.mdp.rewards, world.features @ world.weights)
    other = jnp.arange(6.0)
    np.testing.assert_array_equal(under_weights(world, other).rewards, world.features @ other)


def test_features_of_a_step_are_those_of_its_state_and_action():
    world = board(EVERY_CODE)
    states = jnp.repeat(jnp.arange(15)[:, None], 4, axis=1)
    lands = jnp.argmax(world.mdp.transitions, axis=-1)
    np.testing.assert_array_equal(step_features(world, states, lands), world.features)


@pytest.mark.long
def test_random_boards_hold_what_their_recipe_says():
    recipe = Recipe(sheep=(0.1,), roadblocks=(0.3,), coins=(0.1,), bricks=(0.2,))
    draw = partial(random_board, height=5, width=4, recipe=recipe)
    keys = jax.random.split(jax.random.key(0), 8)
    draw = jax.jit(jax.vmap(draw))
    worlds = draw(keys)
    check_mdp(worlds.mdp)
    kinds = np.asarray(worlds.cells % 6).reshape(8, -1)
    for code, count in ((1, 1), (3, 2), (5, 6), (4, 2), (2, 0)):
        np.testing.assert_array_equal((kinds == code).sum(-1), count)
    np.testing.assert_array_equal((np.asarray(worlds.cells) >= 6).sum((1, 2)), 4)
    weights = np.asarray(worlds.weights)
    assert set(weights[:, 1]) <= {1, 5, 10, 50}
    assert set(weights[:, 2]) <= {-5, -10, -50, -100}
    assert len({tuple(row) for row in kinds}) == 8
    # A board hangs on its key alone, not on its place in the batch.
    turned = jax.tree.map(lambda leaf: leaf[::-1], worlds)
    jax.tree.map(np.testing.assert_array_equal, draw(keys[::-1]), turned)


@pytest.mark.long
def test_entering_sheep_is_a_lottery():
    world = jax.jit(partial(lottery_board, win_weight=30.0))(jax.random.key(3))
    check_mdp(world.mdp)
    cells = np.asarray(world.cells).ravel()
    sheep, won = np.flatnonzero(cells == 3), 25
    entered = np.asarray(world.mdp.transitions[..., won])[:won]
    assert set(entered.ravel()) == {0, 0.5}
    lost = np.asarray(world.mdp.transitions)[:won][..., sheep].sum(-1)
    going = ~np.asarray(absorbing_states(world.mdp))[:won]
    np.testing.assert_array_equal(entered[going], lost[going])
    np.testing.assert_allclose(world.mdp.rewards[:won][entered == 0.5], (30 - 50) / 2)
    assert absorbing_states(world.mdp)[jnp.array([won, *sheep])].all()
    outcomes = step_features(world, jnp.array([0, 0]), jnp.array([sheep[0], won]))
    np.testing.assert_array_equal(outcomes @ world.weights, [-50, 30])


def test_the_cliff_grid_pays_on_entering():
    world = jax.jit(cliff_grid)(jax.random.key(1))
    check_mdp(world.mdp)
    cells, rewards = np.asarray(world.cells).ravel(), np.asarray(world.mdp.rewards)
    assert ((cells == 1).sum(), (cells == 3).sum()) == (1, 4)
    lands = np.argmax(world.mdp.transitions, axis=-1)
    stays = lands == np.arange(25)[:, None]
    expected = np.select([cells[lands] == 1, (cells[lands] == 3) & ~stays], [1, -1.1], -0.1)
    expected[cells == 1] = 0
    np.testing.assert_allclose(rewards, expected, atol=1e-15)
    np.testing.assert_array_equal(absorbing_states(world.mdp), cells == 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: board(((0, 1), (12, 0))), "got 12 at row 1, column 0"),
        (lambda: random_board(jax.random.key(0), height=1, width=1), "two cells"),
        (lambda: Recipe(sheep=(1.0,)), r"sheep must be in \[0, 1\)"),
        (lambda: Recipe(coins=()), "coins must have a number"),
        (
            lambda: random_board(jax.random.key(0), recipe=Recipe(sheep=(0.9,), coins=(0.2,))),
            "must leave room",
        ),
        (lambda: lottery_board(jax.random.key(0), win_weight=1.0, side=1), "side must be >= 2"),
        (lambda: cliff_grid(jax.random.key(0), side=2), "4 hazards"),
    ],
)
def test_what_is_no_board_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
