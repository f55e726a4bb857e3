"""Other layouts of tables: each against a hand-made table, toy text against its own dynamics."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from rlhf_jax.envs.table_formats import expected_rewards, from_gymnasium, from_mdptoolbox
from rlhf_jax.envs.tabular_mdp import discounted_env
from rlhf_jax.exact import discounted_mdp
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

# Action 0 stays in state 0 with 1/4 and goes to state 1 with 3/4; action 1 always goes to 0.
ACTION_FIRST = np.array([[[0.25, 0.75], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
OF_NEXT = np.array([[[4.0, 8.0], [np.nan, 2.0]], [[3.0, np.nan], [5.0, np.nan]]])
INITIAL = [1, 0]


def test_rewards_of_the_next_state_are_averaged_over_it():
    """State 0, action 0: 4 / 4 + 8 * 3 / 4 = 7. A reward of an impossible step is not read."""
    mdp = from_mdptoolbox(ACTION_FIRST, OF_NEXT, initial=INITIAL, gamma=0.9)
    assert mdp.rewards.tolist() == [[7.0, 3.0], [2.0, 5.0]]
    np.testing.assert_array_equal(mdp.transitions[0], [[0.25, 0.75], [1.0, 0.0]])
    np.testing.assert_array_equal(mdp.transitions[1], [[0.0, 1.0], [1.0, 0.0]])
    rewards = np.moveaxis(OF_NEXT, 0, 1)
    batch = [np.stack([x, x]) for x in (np.moveaxis(ACTION_FIRST, 0, 1), rewards)]
    assert expected_rewards(*batch).tolist() == [[[7.0, 3.0], [2.0, 5.0]]] * 2


def test_rewards_of_state_and_action_or_of_the_state_alone_are_taken_as_they_are():
    of_action = from_mdptoolbox(ACTION_FIRST, [[1, 2], [3, 4]], initial=INITIAL, gamma=0.9)
    assert of_action.rewards.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    of_state = from_mdptoolbox(ACTION_FIRST, [5, 6], initial=INITIAL, gamma=0.9)
    assert of_state.rewards.tolist() == [[5.0, 5.0], [6.0, 6.0]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: expected_rewards(ACTION_FIRST, OF_NEXT[0]), r"\(2, 2, 2\) and \(2, 2\)"),
        (
            lambda: from_mdptoolbox(ACTION_FIRST[0], OF_NEXT, initial=INITIAL, gamma=0.9),
            r"must have shape \[A, S, S\], got \(2, 2\)",
        ),
        (
            lambda: from_mdptoolbox(ACTION_FIRST, [1, 2, 3], initial=INITIAL, gamma=0.9),
            r"\(2, 2, 2\), \(2, 2\) or \(2,\), got \(3,\)",
        ),
        (
            lambda: from_gymnasium(SimpleNamespace(unwrapped=SimpleNamespace()), gamma=0.9),
            r"SimpleNamespace must have its table as P\[state\]\[action\]",
        ),
    ],
)
def test_what_can_not_be_converted_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def ledge():
    """A ledge of two states as toy text: action 1 jumps. Half the jumps end in state 1, and the
    table has a way back from there although the episode is over."""
    stay, back = [(1.0, 0, -1.0, False)], [(1.0, 0, -1.0, False)]
    jump = [(0.5, 1, 10.0, True), (0.25, 0, -1.0, False), (0.25, 0, -1.0, False)]
    table = {0: {0: stay, 1: jump}, 1: {0: back, 1: back}}
    world = SimpleNamespace(P=table, initial_state_distrib=np.array([1.0, 0.0]))
    return SimpleNamespace(unwrapped=world)


@pytest.mark.long
def test_a_step_of_toy_text_that_terminates_is_followed_by_nothing():
    """r(0, jump) = 5 - 1/4 - 1/4 = 4.5, so V(0) = 4.5 + 0.9 V(0) / 2 = 4.5 / 0.55."""
    mdp = from_gymnasium(ledge(), gamma=0.9)
    assert mdp.transitions[0].tolist() == [[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]]
    assert mdp.rewards.tolist() == [[-1.0, 4.5], [-1.0, -1.0], [0.0, 0.0]]
    best = discounted_mdp.optimal(mdp)
    np.testing.assert_allclose(best.values[0], 4.5 / 0.55, rtol=1e-5)
    assert float(best.values[2]) == 0.0


def sweeps(table, gamma, count):
    """Value iteration on the table of a toy-text world itself, [S]."""
    values = np.zeros(len(table))
    for _ in range(count):
        values = np.array(
            [
                max(
                    sum(p * (r + gamma * values[s] * (not over)) for p, s, r, over in outcomes)
                    for outcomes in table[state].values()
                )
                for state in range(len(table))
            ]
        )
    return values


@pytest.mark.long
def test_the_frozen_lake_has_the_values_of_its_own_table():
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("FrozenLake-v1")
    mdp = from_gymnasium(env, gamma=0.8)
    best = discounted_mdp.optimal(mdp)
    np.testing.assert_allclose(best.values[:-1], sweeps(env.unwrapped.P, 0.8, 80), atol=1e-4)


@pytest.mark.long
def test_the_shortest_way_along_the_cliff_is_thirteen_steps():
    gymnasium = pytest.importorskip("gymnasium")
    mdp = from_gymnasium(gymnasium.make("CliffWalking-v1"), gamma=0.9)
    act = policy_act(tabular_policy(49, 4), discounted_mdp.optimal(mdp).logps)
    episode = sample_episode(discounted_env(mdp), act, jax.random.key(0), steps=15)
    assert episode.rewards.tolist() == [-1.0] * 13 + [0.0] * 2
    assert int(episode.last_observation) == 48  # the end


@pytest.mark.long
def test_a_taxi_ride_ends_where_the_passenger_is_set_down_at_the_destination():
    """One state for each of the four destinations, and one action of six, which pays 20."""
    gymnasium = pytest.importorskip("gymnasium")
    mdp = from_gymnasium(gymnasium.make("Taxi-v4"), gamma=0.9)
    ends = mdp.transitions[:-1, :, -1] > 0
    assert mdp.rewards.shape == (501, 6)
    assert mdp.rewards[:-1][ends].tolist() == [20.0] * 4
    assert mdp.rewards[:-1][~ends].max() == -1.0
