"""Updates on labelled and scored answers: by hand, in parts, and what they refuse."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import unpaired
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.ppo import ActorCritic
from rlhf_jax.certify import LAYOUTS, certify
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses.preference import apo_zero_unpaired_loss, kto_loss
from rlhf_jax.policies.tabular import tabular_policy, tabular_value
from rlhf_jax.types import Trajectory

SGD = optax.sgd(1.0)
POLICY = tabular_policy(2, 2)
PARAMS = jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
STATES = jnp.array([0, 1])
ANSWERS = jnp.array([0, 1])
HALF = jnp.log(jnp.array([0.5, 0.5]))  # the reference is uniform
BATCH = unpaired.UnpairedBatch(
    answers=bandit_trajectory(STATES, ANSWERS),
    labels=jnp.array([True, False]),
    ref_logps=HALF,
    mismatched=bandit_trajectory(STATES, ANSWERS[::-1]),
    ref_mismatched_logps=HALF,
)
KTO = partial(kto_loss, beta=1.0)


@pytest.mark.long
def test_kto_measures_its_answers_against_the_mismatched_ones():
    update = unpaired.make_update(POLICY, SGD, KTO, mismatched=True)
    state, metrics = update(init_state(PARAMS, SGD), BATCH)
    # Mismatched: action 1 in state 0, action 0 in state 1; log(0.75 / 0.5) = 0.405465 and 0.
    np.testing.assert_allclose(metrics["kl"].value(), 0.405465 / 2, rtol=1e-5)
    # u = log(0.25 / 0.5) = -0.693147 good, log(0.5 / 0.5) = 0 bad, and z0 = 0.202733:
    # sigmoid(z0 - u) = sigmoid(0.895880) = 0.710102 and sigmoid(u - z0) = 0.449490.
    np.testing.assert_allclose(metrics["loss"].value(), (0.710102 + 0.449490) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["rewards/desirable"], (-0.693147, 1.0), rtol=1e-5)
    np.testing.assert_allclose(metrics["rewards/undesirable"], (0.0, 1.0), atol=1e-6)
    np.testing.assert_allclose(metrics["logps/answer"].value(), -1.5 * 0.693147, rtol=1e-5)
    # Slopes in u, halved: -0.710102 * 0.289898 / 2 = -0.102929 and 0.449490 * 0.550510 / 2 =
    # 0.123724; du/dz = (0.75, -0.75) and (-0.5, 0.5). No slope through z0.
    moved = [[0.077196, -0.077196], [0.061862, -0.061862]]
    np.testing.assert_allclose(state.params - PARAMS, moved, rtol=1e-4)


@pytest.mark.long
def test_a_label_is_enough_for_apo_zero():
    loss = partial(apo_zero_unpaired_loss, beta=1.0)
    batch = replace(BATCH, mismatched=None, ref_mismatched_logps=None)
    _, metrics = unpaired.make_update(POLICY, SGD, loss)(init_state(PARAMS, SGD), batch)
    # sigmoid(0.693147) = 2/3 and sigmoid(0) = 1/2
    np.testing.assert_allclose(metrics["loss"].value(), 7 / 12, rtol=1e-6)
    assert "kl" not in metrics


@pytest.mark.long
def test_the_shift_of_bco_is_the_mean_over_every_answer_so_far():
    still = optax.sgd(0.0)
    update = jax.jit(unpaired.make_bco_update(POLICY, still, beta=1.0))
    batch = replace(BATCH, answers=bandit_trajectory(0 * STATES, ANSWERS))
    state, metrics = update(unpaired.init_bco(PARAMS, still), batch)
    # u = log 0.5 = -0.693147 good, log 1.5 = 0.405465 bad: total -0.287682 of 2, d = -0.143841.
    np.testing.assert_allclose(metrics["shift"], (-0.287682, 2.0), rtol=1e-5)
    # Both margins are -0.549306, and log(1 + e^0.549306) = log(1 + sqrt 3) = 1.005053.
    np.testing.assert_allclose(metrics["loss"].value(), 1.005053, rtol=1e-5)
    again = replace(
        batch,
        answers=bandit_trajectory(0 * STATES, jnp.array([1, 1])),
        labels=jnp.array([True, True]),
        weights=jnp.array([2.0, 0.0]),
    )
    state, metrics = update(state, again)
    # -0.287682 + 2 * 0.405465 = 0.523248 of 4, d = 0.130812; log(1 + e^-(0.405465 - 0.130812))
    np.testing.assert_allclose(state.shift, (0.523248, 4.0), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"].value(), 0.565220, rtol=1e-5)
    assert state.train.step == 2


@pytest.mark.long
def test_dro_regresses_the_score_on_values_and_log_ratios():
    update = unpaired.make_dro_update(POLICY, tabular_value(2), SGD, beta=1.0)
    one = unpaired.UnpairedBatch(bandit_trajectory(*jnp.zeros((2, 1), int)), jnp.ones(1), HALF[:1])
    params = ActorCritic(PARAMS, jnp.array([0.5, 9.0]))
    state, metrics = update(init_state(params, SGD), one)
    # 1 - 0.5 + 0.693147 = 1.193147; half its square; a step of it times (0.75, -0.75), and in V.
    np.testing.assert_allclose(metrics["loss"].value(), 0.711800, rtol=1e-5)
    assert metrics["values/prompt"].value() == 0.5
    np.testing.assert_allclose((state.params.policy - PARAMS)[0], [0.894860, -0.894860], rtol=1e-5)
    np.testing.assert_allclose(state.params.value, [1.693147, 9.0], rtol=1e-5)


def test_the_value_of_a_prompt_is_the_one_before_the_first_counted_step():
    steps = jnp.array([[0, 1, 0]])
    answer = Trajectory(steps, 0 * steps, jnp.array([[False, True, True]]))
    batch = unpaired.UnpairedBatch(answer, jnp.ones(1), HALF[:1])
    objective = unpaired.make_dro_objective(POLICY, tabular_value(2), beta=1.0)
    _, diagnostics = objective(ActorCritic(PARAMS, jnp.array([0.5, 9.0])), batch)
    assert diagnostics["values/prompt"].value() == 9.0


def random_batch(rows=8, steps=3):
    rng = np.random.default_rng(0)

    def answers():
        states, actions = jnp.asarray(rng.integers(0, 2, (2, rows, steps)))
        return Trajectory(states, actions, jnp.arange(steps) < rng.integers(1, 4, (rows, 1)))

    logps = jnp.asarray(-rng.uniform(1, 3, (2, rows)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 2, rows), bool)
    weights = jnp.asarray([1.0, 0.5, 2.0, 1.0, 0.0, 1.0, 3.0, 1.0])
    return unpaired.UnpairedBatch(answers(), labels, logps[0], answers(), logps[1], weights)


@pytest.mark.long
def test_no_layout_of_the_batch_matters():
    objective = unpaired.make_objective(POLICY, KTO)
    skip = {"packing": "two trajectories"}
    found = certify(
        lambda params, batch: objective(params, batch, {"kl": jnp.float32(0.3)}),
        random_batch(),
        params=PARAMS,
        skip=skip,
        meshes=(),
    )
    assert found.holds
    assert found.deviations.keys() >= LAYOUTS.keys() - skip.keys()


@pytest.mark.long
@pytest.mark.parametrize("method", ["kto", "bco"])
def test_micro_batches_share_the_number_of_the_whole_batch(method):
    def step(parts):
        if method == "bco":
            update = unpaired.make_bco_update(POLICY, SGD, beta=0.5, parts=parts)
            return jax.jit(update)(unpaired.init_bco(PARAMS, SGD), random_batch())
        update = unpaired.make_update(POLICY, SGD, KTO, mismatched=True, parts=parts)
        return jax.jit(update)(init_state(PARAMS, SGD), random_batch())

    whole, parts = step(1), step(4)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), parts, whole)
    number = whole[1]["kl" if method == "kto" else "shift"].value()
    assert abs(number) > 0.1


def test_a_batch_without_mismatched_answers_is_refused():
    update = unpaired.make_update(POLICY, SGD, KTO, mismatched=True)
    batch = replace(BATCH, mismatched=None)
    with pytest.raises(ValueError, match="no mismatched answers: give it `mismatched` and"):
        update(init_state(PARAMS, SGD), batch)
