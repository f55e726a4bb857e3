"""A policy's verdict as a reward, in a table and of a tiny transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax.algos.entailment import EntailmentBatch, make_update
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.losses.feedback import entailment_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.entailment import at_verdict, entailment_logits, entailment_reward
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import Trajectory

YES, NO = 5, 6
SAID = {"yes": (YES,), "no": (NO,)}
MODEL = make_transformer(
    TransformerConfig(
        vocab_size=7, d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8
    )
)
POLICY = language_policy(MODEL)


def questions(actions, mask):
    """Rows with a question of three tokens, and these completions: the last one is a verdict."""
    prompts = jnp.array([[1, 2, 3], [1, 4, 3], [1, 2, 2], [1, 4, 4]])
    return language_trajectory(prompts, jnp.ones_like(prompts, bool), actions, mask)


def test_in_a_table_it_is_the_difference_of_two_logits():
    policy = tabular_policy(3, 7)
    params = jax.random.normal(jax.random.key(0), (3, 7))
    states = jnp.array([[0, 2], [1, 0], [2, 2]])
    mask = jnp.array([[True, True], [True, False], [False, False]])
    found = entailment_reward(policy, **SAID).scores(params, Trajectory(states, states, mask))
    odds = params[:, YES] - params[:, NO]
    np.testing.assert_allclose(found[:2], odds[jnp.array([2, 1])], rtol=1e-5)
    assert jnp.isnan(found[2])  # a row without a verdict


@pytest.mark.long
def test_the_verdict_token_itself_is_not_read_and_reasoning_before_it_is():
    params = random_params(MODEL.init)
    reward, mask = entailment_reward(POLICY, **SAID), jnp.ones((4, 2), bool)
    actions = jnp.array([[3, YES], [3, NO], [2, YES], [2, NO]])
    found = reward.scores(params, questions(actions, mask))
    other = actions.at[:, 1].set(1)
    np.testing.assert_allclose(reward.scores(params, questions(other, mask)), found, rtol=1e-5)
    thought = actions.at[:, 0].set(4)
    assert not np.allclose(reward.scores(params, questions(thought, mask)), found, atol=1e-4)
    # Padding after the verdict never matters.
    longer = jnp.pad(actions, ((0, 0), (0, 2)), constant_values=4)
    padded = questions(longer, jnp.pad(mask, ((0, 0), (0, 2))))
    np.testing.assert_allclose(reward.scores(params, padded), found, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_the_loss_of_the_token_is_that_of_the_policy():
    """-log P(yes) over the whole vocabulary is the negative log-probability of the token."""
    params = random_params(MODEL.init)
    actions = jnp.array([[YES], [NO], [YES], [NO]])
    batch = questions(actions, jnp.ones((4, 1), bool))
    labels = actions[:, 0] == YES
    losses = entailment_loss(entailment_logits(POLICY, params, batch), labels, **SAID)
    logps = POLICY.logps(params, batch.inputs, batch.actions)[:, 0]
    np.testing.assert_allclose(losses, -logps, rtol=1e-5)


@pytest.mark.long
def test_a_transformer_learns_the_verdicts():
    """Questions with the token 2 are answered yes, others no."""
    actions, mask = jnp.full((4, 1), YES), jnp.ones((4, 1), bool)
    batch = EntailmentBatch(questions(actions, mask), jnp.array([True, False, True, False]))
    optimizer = optax.adam(0.03)
    update = jax.jit(make_update(entailment_reward(POLICY, **SAID), optimizer))
    state = init_state(MODEL.init(jax.random.key(0)), optimizer)
    for _ in range(40):
        state, metrics = update(state, batch)
    assert metrics["scores/accuracy"].value() == 1.0
    assert metrics["loss"].value() < 0.1


def test_a_verdict_is_the_last_word_before_the_stop():
    stop = 1
    rows = [
        ([YES, stop, 0, 0], 2, 0),
        ([NO, 3, YES, stop], 4, 2),
        ([YES, 3, stop, 0], 3, None),  # it goes on after the verdict
        ([3, 3, 3, NO], 4, None),  # it was cut
        ([3, YES, stop, NO], 3, 1),  # what is not counted is not read
        ([stop, 0, 0, 0], 1, None),
        ([0, 0, 0, 0], 0, None),
    ]
    actions = jnp.array([row for row, _, _ in rows])
    mask = jnp.arange(4) < jnp.array([count for _, count, _ in rows])[:, None]
    states = jnp.zeros_like(actions)
    found = at_verdict(Trajectory(states, actions, mask), **SAID, stops=(stop,))
    expected = [[at == place for at in range(4)] for _, _, place in rows]
    np.testing.assert_array_equal(found.mask, expected)
    reward = entailment_reward(tabular_policy(1, 7), **SAID)
    scores = reward.scores(jnp.arange(7.0)[None], found)
    np.testing.assert_array_equal(jnp.isnan(scores), [place is None for _, _, place in rows])
    nested = at_verdict(Trajectory(states, actions[:, None], mask[:, None]), **SAID, stops=(stop,))
    np.testing.assert_array_equal(nested.mask[:, 0], found.mask)
