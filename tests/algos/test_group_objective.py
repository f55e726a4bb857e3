"""Losses of the answers to a prompt together, on a table: value, measures and the wrong shape."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.algos.online import GroupBatch, make_group_objective
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses.pairwise_gradient import pairwise_gradient_loss
from rlhf_jax.policies.tabular import tabular_policy

POLICY, LOGITS = tabular_policy(2, 2), jnp.log(jnp.array([[0.25, 0.75], [0.5, 0.5]]))
ANSWERS = bandit_trajectory(jnp.array([[0, 0], [1, 1]]), jnp.array([[1, 0], [0, 1]]))
BATCH = GroupBatch(ANSWERS, {"scores": jnp.array([[3.0, 1.0], [5.0, 1.0]])})


@pytest.mark.long
def test_the_mean_over_prompts_by_hand():
    objective = make_group_objective(
        POLICY, pairwise_gradient_loss, measures=lambda logps, scores: {"best": scores.max(-1)}
    )
    loss, found = objective(LOGITS, BATCH)
    # -(3 - 1) log(0.75 / 0.25) / 2 for the first prompt, 0 for the second one.
    np.testing.assert_allclose(float(loss), -0.5 * np.log(3.0), rtol=1e-6)
    assert float(found["best"]) == 4.0
    weighted = GroupBatch(ANSWERS, BATCH.columns, jnp.array([1.0, 0.0]))
    loss, found = objective(LOGITS, weighted)
    np.testing.assert_allclose(float(loss), -np.log(3.0), rtol=1e-6)
    assert float(found["best"]) == 3.0


def test_a_loss_per_answer_is_refused():
    objective = make_group_objective(POLICY, lambda logps, scores: logps * scores)
    with pytest.raises(ValueError, match="one loss per group"):
        objective(LOGITS, BATCH)
