"""The update of a generative judge by hand, its symmetry, and a circle of three answers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.verdict_model import make_objective, make_update, two_order_preference
from rlhf_jax.losses.feedback import verdict_token_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.policies.verdicts import language_verdicts
from rlhf_jax.rewards import preference_judge
from rlhf_jax.types import PreferenceBatch, Trajectory, VerdictFn

SGD = optax.sgd(1.0)


def table_logps(params, first, second):
    """params [n, n] are g of one-step answers (first, second)."""
    y, z = first.actions[..., 0], second.actions[..., 0]
    margins = jnp.stack([params[y, z], params[z, y]], axis=-1)
    return jax.nn.log_softmax(jnp.stack([margins, jnp.zeros_like(margins)], axis=-1))


TABLE = VerdictFn(lambda key: jnp.zeros((2, 2)), table_logps)
PARAMS = jnp.array([[0.0, 1.3], [-0.2, 0.4]])


def one_step(actions):
    actions = jnp.asarray(actions)[..., None]
    return Trajectory(jnp.zeros_like(actions), actions, jnp.ones_like(actions, bool))


def test_golden_numbers():
    batch = PreferenceBatch(one_step([0, 1]), one_step([1, 0]), weights=jnp.array([3.0, 1.0]))
    state, metrics = jax.jit(make_update(TABLE, SGD))(init_state(PARAMS, SGD), batch)
    # 3 times [log(1 + e^-1.3) + log(1 + e^-0.2)] / 2 = 0.4195737; once [log(1 + e^0.2) +
    # log(1 + e^1.3)] / 2 = 1.1695737
    np.testing.assert_allclose(metrics["loss"], (2.4282948, 4.0), rtol=1e-6)
    # s = +-0.75 and b = 0.55: right in 3 of 4, in either order 0.2 and 1.3 agree
    np.testing.assert_allclose(metrics["verdicts/accuracy"].value(), 0.75)
    np.testing.assert_allclose(metrics["verdicts/one_order"].value(), 0.75)
    np.testing.assert_allclose(metrics["verdicts/bias"].value(), 0.55, rtol=1e-6)
    # 3/8 sigmoid(-1.3) - 1/8 sigmoid(1.3) and 3/8 of -sigmoid(-0.2) + 1/8 sigmoid(0.2)
    first, second = (1 / (1 + np.exp(x)) for x in (1.3, 0.2))
    change = [[0, 0.375 * first - 0.125 * (1 - first)], [-0.375 * second + 0.125 * (1 - second), 0]]
    np.testing.assert_allclose(state.params - PARAMS, change, rtol=1e-5, atol=1e-7)


@pytest.mark.long
def test_consistency_is_the_square_of_the_sum():
    batch = PreferenceBatch(one_step([0]), one_step([1]))
    plain, _ = make_objective(TABLE)(PARAMS, batch)
    loss, _ = make_objective(TABLE, consistency=0.5)(PARAMS, batch)
    np.testing.assert_allclose(loss.value() - plain.value(), 0.5 * (1.3 - 0.2) ** 2, rtol=1e-5)
    # By itself it makes the orders agree: each step of rate 0.1 takes 0.4 of the sum away.
    update = make_update(TABLE, optax.sgd(0.1), loss=lambda x: 0.0 * x[..., 0, 0], consistency=1.0)
    state, _ = update(init_state(PARAMS, optax.sgd(0.1)), batch)
    np.testing.assert_allclose(state.params[0, 1] + state.params[1, 0], 1.1 * 0.6, rtol=1e-5)
    with pytest.raises(ValueError, match="consistency must be in"):
        make_update(TABLE, SGD, consistency=-1.0)


def test_the_other_loss_and_one_of_another_shape():
    batch = PreferenceBatch(one_step([0]), one_step([1]))
    loss, _ = make_objective(TABLE, loss=verdict_token_loss)(PARAMS, batch)
    np.testing.assert_allclose(loss.value(), 0.4195737, rtol=1e-6)  # A and B are all it can say
    with pytest.raises(ValueError, match="this update needs one loss per pair"):
        make_objective(TABLE, loss=lambda x: x[..., 0])(PARAMS, batch)


def test_a_row_of_weight_zero_has_no_gradient():
    def logps(params, first, second):
        return jnp.log(params * first.actions[..., None] * jnp.ones((2, 2)))

    odd = VerdictFn(lambda key: 1.0, logps)
    batch = PreferenceBatch(one_step([-1, 1]), one_step([0, 0]), weights=jnp.array([0.0, 1.0]))
    update = make_update(odd, SGD, loss=verdict_token_loss)
    state, _ = update(init_state(jnp.float32(2.0), SGD), batch)
    assert state.params == pytest.approx(2.5)  # d log p = 1 / 2


@pytest.mark.long
def test_micro_batches_are_the_same_step():
    batch = PreferenceBatch(one_step([0, 1, 0, 1]), one_step([1, 0, 1, 1]))
    whole, parts = (
        make_update(TABLE, SGD, consistency=0.1, parts=n)(init_state(PARAMS, SGD), batch)[0].params
        for n in (1, 2)
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


def test_both_orders_are_a_preference_without_bias():
    preference = two_order_preference(TABLE)
    first, second = one_step([0, 1, 0]), one_step([1, 0, 0])
    logits = preference.logits(PARAMS, first, second)
    np.testing.assert_allclose(logits, [0.75, -0.75, 0.0], rtol=1e-6)
    for bias in (2.0, -512.0):
        np.testing.assert_allclose(
            preference.logits(PARAMS + bias, first, second), logits, atol=1e-4
        )
    prefs = preference_judge(preference, PARAMS)(np.arange(3), first, second)
    np.testing.assert_allclose(prefs, [0.6791787, 0.3208213, 0.5], rtol=1e-6)


@pytest.mark.long
def test_a_circle_is_judged_by_a_language_model():
    """Rock, paper, scissors: 3 beats 4 beats 5 beats 3; a scalar gets at most 2 of 3."""
    config = TransformerConfig(
        vocab_size=8, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=32
    )
    judge = language_verdicts(make_transformer(config), separator=2, verdicts=(6, 7))
    prompts = jnp.ones((3, 1), jnp.int32)

    def answers(ids):
        ids = jnp.array(ids, jnp.int32)[:, None]
        return language_trajectory(prompts, prompts > 0, ids, ids > 0)

    batch = PreferenceBatch(answers([3, 4, 5]), answers([4, 5, 3]))
    optimizer = optax.adam(1e-2)

    @jax.jit
    def last(key):
        update = make_update(judge, optimizer, loss=verdict_token_loss, consistency=0.01)
        start = init_state(judge.init(key), optimizer)
        state, metrics = jax.lax.scan(lambda s, _: update(s, batch), start, length=200)
        logps = judge.logps(state.params, batch.chosen, batch.rejected)
        return jax.tree.map(lambda x: x[-1], metrics), jnp.exp(logps).sum(-1)

    metrics, said = last(jax.random.key(0))
    assert metrics["verdicts/one_order"].value() == 1.0
    assert metrics["verdicts/bias"].value() < 0.5
    assert jnp.min(said) > 0.9  # other tokens have become improbable
