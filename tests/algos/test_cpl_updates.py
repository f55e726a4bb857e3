"""CPL through the updates of the library: labels travel with the batch, turns are segments."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax.algos import preference, ranking
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.feedback.segments import turn_segments
from rlhf_jax.losses.preference import (
    cpl_kl_loss,
    cpl_loss,
    ranked_cpl_loss,
    segment_advantages,
    soft_cpl_loss,
)
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import PreferenceBatch, Trajectory

SGD = optax.sgd(1.0)
UTILITY = partial(segment_advantages, alpha=1.0)
POLICY = tabular_policy(1, 3)
PARAMS = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))


def answers(*actions):
    """One-step segments in state 0."""
    acts = jnp.asarray(actions)[..., None]
    return Trajectory(jnp.zeros_like(acts), acts, jnp.ones(acts.shape, bool))


def test_soft_labels_travel_as_a_column_of_the_batch():
    pairs = PreferenceBatch(answers(0, 1), answers(1, 2), columns={"prefs": jnp.array([0.7, 0.0])})
    update = preference.make_update(POLICY, SGD, soft_cpl_loss, logps=UTILITY, reference=False)
    state, metrics = jax.jit(update)(init_state(PARAMS, SGD), pairs)
    # 0.7 (-log 5/8) + 0.3 (-log 3/8), and -log 2/5: 0.6232513 and 0.9162907
    np.testing.assert_allclose(metrics["loss"].value(), (0.6232513 + 0.9162907) / 2, rtol=1e-6)
    # Slopes to U: q - p with q = 5/8 and 3/5; U_0 - U_1 and U_1 - U_2 are differences of logits.
    slope = np.array([[0.625 - 0.7, 0.7 - 0.625 + 0.6, -0.6]]) / 2
    np.testing.assert_allclose(PARAMS - state.params, slope, rtol=1e-4)


@pytest.mark.long
def test_a_pair_of_weight_zero_carries_any_label():
    wide = PreferenceBatch(
        answers(0, 1),
        answers(1, 2),
        weights=jnp.array([1.0, 0.0]),
        columns={"prefs": jnp.array([0.7, jnp.nan])},
    )
    one = PreferenceBatch(answers(0), answers(1), columns={"prefs": jnp.array([0.7])})
    update = preference.make_update(POLICY, SGD, soft_cpl_loss, logps=UTILITY, reference=False)
    found, want = (update(init_state(PARAMS, SGD), x)[0].params for x in (wide, one))
    np.testing.assert_allclose(found, want, rtol=1e-6)


@pytest.mark.long
def test_scores_travel_with_ranked_segments_ties_included():
    scores = jnp.array([[0.2, 0.9, 0.9]])
    batch = ranking.rank_lists(answers([0, 1, 2]), scores)
    update = ranking.make_update(POLICY, SGD, ranked_cpl_loss, logps=UTILITY)
    state, metrics = jax.jit(update)(init_state(PARAMS, SGD), batch)
    # 1 ties with 2: (-log 3/5 - log 2/5) / 2; 1 over 0: -log 3/8; 2 over 0: -log 2/7
    expected = ((np.log(5 / 3) + np.log(5 / 2)) / 2 + np.log(8 / 3) + np.log(7 / 2)) / 3
    np.testing.assert_allclose(metrics["loss"].value(), expected, rtol=1e-6)
    assert float(update(state, batch)[1]["loss"].value()) < expected


def test_cpl_kl_reads_the_reference_of_the_batch():
    pairs = preference.attach_reference(
        POLICY, PARAMS, PreferenceBatch(answers(0), answers(1)), logps=UTILITY
    )
    loss = partial(cpl_kl_loss, beta=0.5, bias=0.5)
    update = preference.make_update(POLICY, SGD, loss, logps=UTILITY)
    params = jnp.log(jnp.array([[0.25, 0.6, 0.15]]))
    _, metrics = update(init_state(params, SGD), pairs)
    # u = log 1/2, log 2: 0.5 (-log 2 - 0.5 log 2) = -0.75 log 2, so log(1 + 2^0.75)
    np.testing.assert_allclose(metrics["loss"].value(), np.log1p(2**0.75), rtol=1e-5)


CONFIG = TransformerConfig(
    vocab_size=11, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=24
)
GOOD, BAD = 7, 3
TURN_IDS = np.array([0, 0, -1, -1, 1, 1, 1])  # answer, observation, answer


def dialogues(word, seed=0, rows=8):
    """Two turns with an observation between them; both answers of a row are all one word."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(8, 11, (rows, len(TURN_IDS)))
    ids[:, TURN_IDS == 1] = word
    prompts, all_of = rng.integers(8, 11, (rows, 3)), np.ones((rows, 3), bool)
    counted = np.broadcast_to(TURN_IDS >= 0, ids.shape)
    return language_trajectory(prompts, all_of, ids, counted, np.ones(ids.shape, bool))


@pytest.mark.long
def test_cpl_trains_a_language_policy_with_turns_as_segments():
    policy = language_policy(make_transformer(CONFIG))
    params, optimizer = random_params(policy.init), optax.adam(0.01)
    turn_ids = jnp.broadcast_to(jnp.asarray(TURN_IDS), (8, len(TURN_IDS)))
    turns = [turn_segments(dialogues(word), turn_ids, num_turns=2) for word in (GOOD, BAD)]
    # Turn 0 is the same on both sides: only turn 1 says which is better.
    decided = jnp.broadcast_to(jnp.array([0.0, 1.0]), (8, 2))
    pairs = PreferenceBatch(*turns, weights=decided)
    utility = partial(segment_advantages, alpha=0.5)
    update = jax.jit(
        preference.make_update(policy, optimizer, cpl_loss, logps=utility, reference=False)
    )
    chosen = turns[0]
    logps = jax.jit(policy.logps)(params, chosen.inputs, chosen.actions)
    by_hand = 0.5 * np.asarray(logps)[:, :, TURN_IDS == 1].sum(-1)[:, 1]
    found = preference.trajectory_logps(policy, params, chosen, logps=utility)
    np.testing.assert_allclose(found[:, 1], by_hand, rtol=1e-5)
    state, first = update(init_state(params, optimizer), pairs)
    np.testing.assert_allclose(first["logps/chosen"].value(), by_hand.mean(), rtol=1e-5)
    for _ in range(80):
        state, last = update(state, pairs)
    assert float(last["rewards/accuracy"].value()) == 1.0
    assert float(last["loss"].value()) < 0.2 * float(first["loss"].value())
    # On dialogues that were not trained on, too.
    held_out = [turn_segments(dialogues(w, 1), turn_ids, num_turns=2) for w in (GOOD, BAD)]
    good, bad = (preference.trajectory_logps(policy, state.params, x) for x in held_out)
    assert bool(jnp.all(good[:, 1] > bad[:, 1]))
