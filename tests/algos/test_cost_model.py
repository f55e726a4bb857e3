"""Cost models on a table: signed ones find their zero, comparisons only leave it free."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import cost_model
from rlhf_jax.algos.cost_model import cost_threshold
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.feedback import cost_model_loss
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.policies.tabular import tabular_reward
from rlhf_jax.types import PreferenceBatch, Trajectory

COST = tabular_reward(1, 3)
TRUE = np.array([-2.0, 0.5, 1.5])  # the first is safe


def answers(actions):
    actions = jnp.asarray(actions)[:, None]
    seen = jnp.ones(actions.shape, bool)
    return Trajectory(jnp.zeros_like(actions), actions, seen, seen)


def pairs(*, labels=True):
    """All pairs in their true order, with their labels."""
    chosen, rejected = np.array([[0, 1], [0, 2], [1, 2]]).T
    unsafe = jnp.asarray(TRUE > 0, jnp.float32)
    columns = {"chosen_unsafe": unsafe[chosen], "rejected_unsafe": unsafe[rejected]}
    return PreferenceBatch(answers(chosen), answers(rejected), columns=columns if labels else None)


def trained(zero, batch, *, steps=300, start=0.0):
    optimizer = optax.adam(0.05)
    update = jax.jit(cost_model.make_update(COST, optimizer, zero=zero))
    state = init_state(COST.init(jax.random.key(0)) + start, optimizer)
    for _ in range(steps):
        state, metrics = update(state, batch)
    return state.params[0], metrics


def test_the_loss_is_that_of_the_costs():
    costs = jnp.array([[0.3, -0.2, 0.9]])
    batch = pairs()
    by_hand = cost_model_loss(
        jnp.array([-0.2, 0.9, 0.9]), jnp.array([0.3, 0.3, -0.2]), *labels_of(batch)
    )
    loss, metrics = cost_model.make_objective(COST)(costs, batch)
    assert float(loss.value()) == pytest.approx(float(by_hand.mean()), rel=1e-6)
    # 0.3 < 0.9 and -0.2 < 0.9 are right, 0.3 < -0.2 is not; gaps -0.5, 0.6, 1.1
    assert float(metrics["costs/accuracy"].value()) == pytest.approx(2 / 3)
    assert float(metrics["costs/margin"].value()) == pytest.approx(0.4)


def labels_of(batch):
    """Whether the worse and the better answer are unsafe."""
    return batch.columns["rejected_unsafe"] == 1, batch.columns["chosen_unsafe"] == 1


def test_comparisons_are_bradley_terry_with_the_other_sign():
    costs = jnp.array([[0.3, -0.2, 0.9]])
    loss, _ = cost_model.make_objective(COST, zero="comparisons")(costs, pairs())
    gaps = bradley_terry_loss(jnp.array([-0.2, 0.9, 0.9]), jnp.array([0.3, 0.3, -0.2]))
    assert float(loss.value()) == pytest.approx(float(gaps.mean()), rel=1e-6)


def test_a_signed_model_finds_its_zero_and_comparisons_do_not():
    signed, metrics = trained("signed", pairs(), start=6.0)
    assert (np.sign(signed) == np.sign(TRUE)).all()
    assert float(metrics["costs/accuracy"].value()) == 1.0
    plain, _ = trained("comparisons", pairs(), start=6.0)
    assert (plain > 0).all()  # all would be unsafe
    assert (np.argsort(plain) == np.argsort(TRUE)).all()
    assert float(plain.mean()) == pytest.approx(6.0, abs=1e-2)


def test_a_signed_model_of_comparisons_only_is_refused():
    with pytest.raises(ValueError, match="needs the column 'chosen_unsafe'"):
        trained("signed", pairs(labels=False), steps=1)
    trained("comparisons", pairs(labels=False), steps=1)


def test_a_label_that_is_no_label_gives_nan_and_under_weight_0_nothing():
    batch = pairs()
    columns = {**batch.columns, "chosen_unsafe": jnp.array([0.0, jnp.nan, 1.0])}
    params = jnp.zeros((1, 3))
    loss, _ = cost_model.make_objective(COST)(params, replace(batch, columns=columns))
    assert np.isnan(loss.value())
    weights = jnp.array([1.0, 0.0, 1.0])
    given = replace(batch, columns=columns, weights=weights)
    loss, _ = cost_model.make_objective(COST)(params, given)
    assert float(loss.value()) == pytest.approx(3 * np.log(2.0), rel=1e-6)


def test_thresholds():
    assert cost_threshold("signed", 0.25) == 0.25
    # mean 2, sd sqrt(2) of (1, 3)
    found = cost_threshold("comparisons", -0.5, ref_costs=[1.0, 3.0])
    assert found == pytest.approx(2.0 - 0.5 * np.sqrt(2.0))
    # A constant that all costs gain moves the limit along: it is free.
    moved = cost_threshold("comparisons", -0.5, ref_costs=[11.0, 13.0])
    assert moved == pytest.approx(found + 10.0)
    with pytest.raises(ValueError, match="have no zero"):
        cost_threshold("comparisons", -0.5)
    with pytest.raises(ValueError, match="needs no ref_costs"):
        cost_threshold("signed", -0.5, ref_costs=[1.0, 3.0])
    with pytest.raises(ValueError, match="2 or more finite"):
        cost_threshold("comparisons", -0.5, ref_costs=[1.0, np.nan])
