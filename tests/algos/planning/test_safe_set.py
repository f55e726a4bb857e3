"""Safe-set control on a line of six states: every fit by hand, and plans by trying all of them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.planning import safe_set
from rlhf_jax.algos.planning.safe_set import Config, Model, Replay

S, T = 6, 5  # 0 is forbidden, 5 is the goal; action 0 goes left, 1 right
ROWS = [
    ([2, 3, 4, 5], [1, 1, 1]),  # a success of three steps
    ([3, 2, 3, 4, 4, 5], [0, 1, 1, 1, 1]),  # a slow one; its third "right" slips
    ([2, 1, 0], [0, 0]),  # a violation
    ([2, 2], [1]),  # cut off
]


def record(rows, size: int = 5) -> Replay:
    """Trajectories, filled up with empty rows."""
    rows = [*rows, *[([0], [])] * (size - len(rows))]
    states, actions = np.zeros((len(rows), T + 1), int), np.zeros((len(rows), T), int)
    mask = np.zeros((len(rows), T), bool)
    for i, (path, moves) in enumerate(rows):
        states[i, : len(path)], states[i, len(path) :] = path, path[-1]
        actions[i, : len(moves)] = moves
        mask[i, : len(moves)] = True
    last = states[:, -1]
    made = mask.any(-1)
    parts = (states, actions, mask, (last == 5) & made, (last == 0) & made)
    return Replay(*(jnp.asarray(part) for part in parts))


REPLAY = record(ROWS)
STORED = jnp.array([True, True, True, True, False])
FITS = jax.jit(
    lambda replay, kept: (
        safe_set.fit_model(replay, S, 2),
        safe_set.safe_set(replay, kept, S, gamma=0.9),
        safe_set.behaviour_values(replay, kept, S, gamma=0.5, unseen=-9.0),
    )
)
POLICY = jax.jit(
    lambda replay, kept: safe_set.safe_policy(replay, kept, S, 2, config=Config(horizon=3))
)


def test_the_model_is_the_successor_seen_most_often():
    model, _, _ = FITS(REPLAY, STORED)
    known = [[0, 0], [1, 0], [1, 1], [1, 1], [0, 1], [0, 0]]
    np.testing.assert_array_equal(model.known, known)
    # Right of 2 was 3 twice and 2 once; right of 4 was 5 twice and 4 once.
    assert int(model.successors[2, 1]) == 3
    assert int(model.successors[4, 1]) == 5
    assert int(model.successors[3, 0]) == 2
    np.testing.assert_array_equal(np.flatnonzero(model.goal), [5])
    np.testing.assert_array_equal(np.flatnonzero(model.unsafe), [0])


def test_the_safe_set_and_its_backup():
    _, safe, _ = FITS(REPLAY, STORED)
    np.testing.assert_allclose(safe, [0, 0, 1, 1, 1, 1], atol=1e-6)
    # Without the slow success and with a road that leads to the fast one.
    road = record([ROWS[0], ([1, 1, 2], [1, 1])])
    _, safe, _ = FITS(road, STORED)
    np.testing.assert_allclose(safe, [0, 0.9, 1, 1, 1, 1], atol=1e-6)
    _, safe, _ = FITS(road, jnp.array([False, True, False, False, False]))
    np.testing.assert_allclose(safe, np.zeros(S), atol=1e-6)


@pytest.mark.long
def test_below_the_floor_the_safe_set_is_zero_and_above_it_the_same():
    far = record([ROWS[0], ([0, 0, 1, 2], [1, 1, 1])])
    whole, cut = (
        safe_set.safe_set(far, STORED, S, gamma=0.9, floor=floor) for floor in (0.0, 0.85)
    )
    np.testing.assert_allclose(whole, [0.81, 0.9, 1, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(cut, [0, 0.9, 1, 1, 1, 1], atol=1e-6)
    with pytest.raises(ValueError, match=r"floor must be in \[0, 1\]"):
        safe_set.safe_set(far, STORED, S, gamma=0.9, floor=1.5)


@pytest.mark.long
def test_the_safe_set_reaches_along_any_road():
    """Nine steps, seen one at a time, to the place where a success began: 0.9^9 at the start."""
    states = jnp.array([[i, i + 1] for i in range(10)])
    ones = jnp.ones(10, bool)
    road = Replay(states, jnp.ones((10, 1), int), ones[:, None], states[:, 1] == 10, ~ones)
    safe = safe_set.safe_set(road, ones, 11, gamma=0.9)
    np.testing.assert_allclose(safe, [*0.9 ** np.arange(9, -1, -1), 1.0], rtol=1e-6)


def test_values_are_means_of_what_was_done():
    _, _, values = FITS(record(ROWS[:1]), STORED)
    np.testing.assert_allclose(values, [-9, -9, -1.75, -1.5, -1, 0], atol=1e-5)
    _, _, values = FITS(REPLAY, STORED)
    four = -1 / (1 - 0.5 / 3)  # one of three steps stayed
    assert float(values[4]) == pytest.approx(four, rel=1e-5)
    assert float(values[1]) == pytest.approx(-1 + 0.5 * -9, rel=1e-5)
    # The failures pull 2 down.
    _, _, optimistic = FITS(REPLAY, jnp.array([True, True, False, False, False]))
    assert float(optimistic[2]) > float(values[2]) + 0.1


def test_the_first_successes_are_the_shortest_or_the_latest():
    replay = record([ROWS[1], ROWS[2], ROWS[0], ROWS[0], ROWS[3]])
    lengths = safe_set.lengths(replay)
    for k, kept in [(0, []), (1, [2]), (2, [2, 3]), (3, [0, 2, 3]), (99, [0, 2, 3])]:
        found = safe_set.first_successes(replay, lengths, k=jnp.array(k))
        np.testing.assert_array_equal(np.flatnonzero(found), kept)
    latest = safe_set.first_successes(replay, -jnp.arange(5), k=2)
    np.testing.assert_array_equal(np.flatnonzero(latest), [2, 3])


def test_added_episodes_replace_empty_rows():
    empty = record([])
    first = safe_set.add(empty, record(ROWS[:2], 2), 0)
    both = safe_set.add(first, record(ROWS[2:], 2), 2)
    jax.tree.map(np.testing.assert_array_equal, both, REPLAY)


def tried(model, values, allowed, start: int, horizon: int) -> dict[int, float]:
    """Best score by first action, over all sequences."""
    best = dict.fromkeys(range(model.known.shape[1]), -np.inf)
    for plan in itertools.product(best, repeat=horizon):
        state, score = start, 0.0
        for action in plan:
            if not model.goal[state]:
                if not model.known[state, action]:
                    break
                state = int(model.successors[state, action])
            if model.unsafe[state]:
                break
            score += float(model.goal[state])
        else:
            if allowed[state]:
                best[plan[0]] = max(best[plan[0]], score + values[state])
    return best


def test_backups_find_what_trying_all_sequences_finds():
    rng = np.random.default_rng(0)
    states, actions, horizon = 9, 3, 4
    planner = jax.jit(lambda *parts: safe_set.plan_scores(*parts, horizon=horizon))
    for _ in range(3):
        drawn = (
            rng.integers(0, states, (states, actions)),
            rng.random((states, actions)) < 0.7,
            rng.random(states) < 0.2,
            rng.random(states) < 0.2,
        )
        model = jax.tree.map(jnp.asarray, Model._make(drawn))
        values, allowed = rng.normal(size=states), rng.random(states) < 0.6
        found = planner(model, jnp.asarray(values, jnp.float32), jnp.asarray(allowed))
        for start in range(states):
            expected = list(tried(Model._make(drawn), values, allowed, start, horizon).values())
            np.testing.assert_allclose(found[start], expected, atol=1e-5)


def test_the_policy_goes_to_the_goal_and_never_into_what_it_knows_to_be_forbidden():
    probs = np.exp(POLICY(REPLAY, STORED))
    np.testing.assert_allclose(probs[[2, 3]], [[0, 1], [0, 1]], atol=1e-6)
    # From 1 only the way into 0 is known: nothing is feasible, so anything goes.
    np.testing.assert_allclose(probs[1], [0.5, 0.5], atol=1e-6)


def test_any_subset_of_successes_keeps_a_way_to_the_goal():
    """Forgetting shrinks the safe set, but from what is left the goal is still reached."""
    for kept in ([1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 0, 0, 0]):
        probs = np.exp(POLICY(REPLAY, jnp.asarray(kept, bool)))
        np.testing.assert_allclose(probs[[2, 3, 4], 1], [1, 1, 1], atol=1e-6)


def test_relaxed_thresholds_reach_what_is_three_steps_away():
    """0.9^3 = 0.73 is below 0.8: from 0, one step is feasible only after one relaxation."""
    road = record([([4, 5], [1]), ([0, 1, 2, 3, 4], [1, 1, 1, 1])])
    _, safe, _ = FITS(road, STORED)
    assert float(safe[1]) == pytest.approx(0.729)
    one_step = jax.jit(lambda r: safe_set.safe_policy(r, STORED, S, 2, config=Config(horizon=1)))
    np.testing.assert_allclose(np.exp(one_step(road)[0]), [0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.0}, r"threshold must be in \(0, 1\), got 1.0"),
        ({"gamma": 0.0}, r"gamma must be in \(0, 1\)"),
        ({"horizon": 0}, r"horizon must be in \[1, inf\)"),
        ({"retries": -1}, r"retries must be in \[0, inf\)"),
    ],
)
def test_safe_set_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_lengths_count_the_steps_made():
    np.testing.assert_array_equal(safe_set.lengths(REPLAY), [3, 5, 2, 1, 0])
