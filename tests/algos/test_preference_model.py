"""The preference model's update by hand, and on a circle that no reward model can fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import preference_model, reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.links import hinge
from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.policies.language import language_preference, language_reward, language_trajectory
from rlhf_jax.types import PreferenceBatch, PreferenceFn, Trajectory

SGD = optax.sgd(1.0)


def table_logits(params, first, second):
    """[n, n] scores of one-step answers, made antisymmetric."""
    y, z = first.actions[..., 0], second.actions[..., 0]
    return params[y, z] - params[z, y]


TABLE = PreferenceFn(lambda key: jnp.zeros((2, 2)), table_logits)


def one_step(actions):
    actions = jnp.asarray(actions)[..., None]
    return Trajectory(jnp.zeros_like(actions), actions, jnp.ones_like(actions, bool))


def test_golden_numbers():
    params = jnp.array([[0.0, 1.0], [0.0, 0.0]])
    batch = PreferenceBatch(one_step([0, 1]), one_step([1, 1]), weights=jnp.array([3.0, 1.0]))
    update = jax.jit(preference_model.make_update(TABLE, SGD))
    state, metrics = update(init_state(params, SGD), batch)
    # margins 1 and 0: 3 log(1 + e^-1) + log 2 = 0.9397851 + 0.6931472; the tie counts one half
    np.testing.assert_allclose(metrics["loss"], (1.6329323, 4.0), rtol=1e-6)
    np.testing.assert_allclose(metrics["prefs/accuracy"], (3.5, 4.0))
    # 3/4 sigmoid(-1) = 0.2017061 both ways; an answer against itself has no gradient
    change = [[0.0, 0.2017061], [-0.2017061, 0.0]]
    np.testing.assert_allclose(state.params - params, change, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"].value(), 0.2017061 * 2**0.5, rtol=1e-5)


def test_another_link():
    params = jnp.array([[0.0, 0.25], [0.0, 0.0]])
    batch = PreferenceBatch(one_step([0]), one_step([1]))
    loss, diagnostics = preference_model.make_objective(TABLE, loss=hinge)(params, batch)
    assert loss.value() == pytest.approx(0.75)
    assert diagnostics["prefs/accuracy"].value() == 1.0


@pytest.mark.long
def test_a_row_of_weight_zero_has_no_gradient():
    odd = PreferenceFn(lambda key: 1.0, lambda params, a, b: jnp.log(params * a.actions[..., 0]))
    batch = PreferenceBatch(one_step([-1, 1]), one_step([0, 0]), weights=jnp.array([0.0, 1.0]))
    state, _ = preference_model.make_update(odd, SGD)(init_state(jnp.float32(2.0), SGD), batch)
    assert state.params == pytest.approx(2.0 + 0.5 / 3.0)  # d log p = 1/2, sigmoid(-log 2) = 1/3


@pytest.mark.long
def test_a_circle_is_fitted_by_a_preference_model_and_by_no_reward_model():
    """Rock, paper, scissors as answers of one token: 3 beats 4 beats 5 beats 3."""
    config = TransformerConfig(
        vocab_size=6, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=32
    )
    model = make_reward_model(config)
    prompts = jnp.ones((3, 1), jnp.int32)

    def answers(ids):
        ids = jnp.array(ids, jnp.int32)[:, None]
        return language_trajectory(prompts, prompts > 0, ids, ids > 0)

    batch = PreferenceBatch(answers([3, 4, 5]), answers([4, 5, 3]))
    optimizer = optax.adam(1e-2)

    @jax.jit
    def accuracies(key):
        updates = (
            preference_model.make_update(language_preference(model, separator=2), optimizer),
            reward_model.make_update(language_reward(model), optimizer),
        )
        start = init_state(model.init(key), optimizer)
        runs = [
            jax.lax.scan(lambda s, _, f=update: f(s, batch), start, length=300)[1]
            for update in updates
        ]
        return runs[0]["prefs/accuracy"].value()[-1], runs[1]["scores/accuracy"].value()

    pairwise, scores = accuracies(jax.random.key(0))
    assert pairwise > 0.95
    assert np.max(scores) <= 2 / 3 + 1e-6
