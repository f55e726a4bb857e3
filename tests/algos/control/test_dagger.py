"""HG-DAgger on a table: the majority of labels, nothing from the learner's own steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.control import dagger


def labelled(state, place, action, *, by_expert=True):
    return dagger.update_dagger(state, jnp.array(place), jnp.array(action), jnp.array(by_expert))


def test_the_majority_rules_and_unlabelled_states_are_uniform():
    state = dagger.init_dagger(3, 2)
    for place, action in [(0, 1), (0, 0), (0, 1), (1, 0), (1, 1)]:
        state = labelled(state, place, action)
    state = labelled(state, 2, 1, by_expert=False)
    np.testing.assert_array_equal(state.counts, [[1, 2], [1, 1], [0, 0]])
    np.testing.assert_allclose(
        jnp.exp(dagger.majority_policy(state)), [[0, 1], [0.5, 0.5], [0.5, 0.5]]
    )


def test_of_a_sure_expert_it_is_the_expert_wherever_it_was_seen():
    expert = jnp.array([1, 0, 1, 1])
    places = jnp.array([0, 2, 0, 3, 2, 2])

    def step(state, place):
        return dagger.update_dagger(state, place, expert[place], jnp.array(True)), None

    state, _ = jax.lax.scan(step, dagger.init_dagger(4, 2), places)
    expected = [[0, 1], [0.5, 0.5], [0, 1], [0, 1]]
    np.testing.assert_allclose(jnp.exp(dagger.majority_policy(state)), expected)


@pytest.mark.slow
def test_it_acts_by_its_policy():
    state = dagger.DaggerState(jnp.array([[0.0, 3.0], [2.0, 2.0]]))
    keys = jax.random.split(jax.random.key(0), 400)
    act = jax.jit(jax.vmap(lambda key, place: dagger.majority_action(key, state, place), (0, None)))
    assert act(keys, jnp.array(0)).min() == 1
    assert 0.4 < float(act(keys, jnp.array(1)).mean()) < 0.6
