"""Draws from a table: the right distribution, counted per row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.keys import draw_actions, likeliest, row_keys
from rlhf_jax.sampling.rollout import sample_actions

POLICY = tabular_policy(2, 3)
PROBS = np.array([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
PARAMS = jnp.log(jnp.asarray(PROBS, jnp.float32))
KEY = jax.random.key(5)
GOLDEN = [[0, 31, 49, 49], [21, 31, 17, 49], [10, 31, 17, 49]]


def act(states, prompts, samples, key=KEY):
    return sample_actions(
        POLICY, PARAMS, states, key, prompt_indices=prompts, sample_indices=samples
    )


@pytest.mark.long
def test_frequencies_match_the_policy():
    """20,000 draws per state; the bound is four standard errors."""
    count = 20_000
    states = jnp.tile(jnp.array([[0, 1]]), (count, 1))
    trajectory, logps = act(states, jnp.arange(count), jnp.zeros(count, jnp.int32))
    actions = np.asarray(trajectory.actions)
    for state in range(2):
        got = np.bincount(actions[:, state], minlength=3) / count
        error = np.sqrt(PROBS[state] * (1 - PROBS[state]) / count)
        assert np.all(np.abs(got - PROBS[state]) < 4 * error)
    np.testing.assert_allclose(logps, np.log(PROBS)[states, actions], atol=1e-5)
    both = np.mean((actions[:, 0] == 0) & (actions[:, 1] == 2))  # steps are independent
    assert abs(both - 0.48) < 4 * np.sqrt(0.48 * 0.52 / count)


@pytest.mark.long
def test_a_row_depends_on_its_own_counters_only():
    states = jnp.array([[0], [1], [0], [1]])
    prompts, samples = jnp.array([4, 7, 4, 9]), jnp.array([0, 0, 1, 0])
    whole = act(states, prompts, samples)[0].actions
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_array_equal(
        act(states[order], prompts[order], samples[order])[0].actions, whole[order]
    )
    for i in range(4):
        one = act(states[i], prompts[i], samples[i])[0]
        np.testing.assert_array_equal(one.actions, whole[i])
        assert one.mask.shape == (1,)


def test_every_counter_changes_the_draw():
    logits = jnp.zeros((1, 10_000))

    def one(key, prompt, sample, step):
        keys = row_keys(key, jnp.array([prompt]), jnp.array([sample]))
        return int(draw_actions(keys, step, logits)[0])

    draws = {
        one(KEY, 1, 2, 3),
        one(KEY, 2, 1, 3),
        one(KEY, 1, 3, 2),
        one(KEY, 1, 2, 4),
        one(KEY, 0, 2, 3),
        one(jax.random.fold_in(KEY, 0), 1, 2, 3),
    }
    assert len(draws) == 6
    assert one(KEY, 1, 2, 3) == one(KEY, 1, 2, 3)


def test_forbidden_actions_are_never_drawn():
    logits = jnp.tile(jnp.array([-jnp.inf, 0.0, -jnp.inf]), (50, 1))
    keys = row_keys(KEY, jnp.arange(50), jnp.arange(50))
    np.testing.assert_array_equal(draw_actions(keys, 0, logits), np.ones(50))


def test_indices_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="give one index per row"):
        act(jnp.zeros((3, 1), jnp.int32), jnp.arange(2), jnp.arange(2))


def test_the_likeliest_is_what_argmax_says():
    nan, inf = jnp.nan, jnp.inf
    rows = [[0, 2, 2], [-inf, -inf, -inf], [inf, 3, inf], [1, nan, inf], [nan, nan, 0], [-1, -2, 0]]
    got = likeliest(jnp.array(rows))
    assert got.tolist() == [1, 0, 0, 1, 0, 2] == jnp.argmax(jnp.array(rows), axis=-1).tolist()
    assert got.dtype == jnp.int32


def test_draws_are_those_of_their_counters():
    """argmax(logits + Gumbel noise from fold_in(key, step)): ids seen before, for good."""
    logits = 3 * jax.random.normal(jax.random.key(0), (4, 50))
    keys = row_keys(KEY, jnp.arange(4), jnp.array([0, 0, 1, 1]))
    drawn = [draw_actions(keys, step, logits).tolist() for step in range(3)]
    assert drawn == GOLDEN
    each = draw_actions(keys, jnp.array([0, 1, 2, 0]), logits)
    assert each.tolist() == [drawn[0][0], drawn[1][1], drawn[2][2], drawn[0][3]]
