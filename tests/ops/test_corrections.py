"""Rewards of tokens by a rewriting: by hand, against greedy decoding, and their invariances."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.corrections import (
    agreement_rewards,
    correction_rewards,
    likeliest_agreement,
    seq2seq_token_rewards,
    soft_correction_rewards,
)

YES, NO = True, False
AGREES = jnp.array([[YES, YES, NO, YES, NO], [NO, YES, YES, YES, YES], [YES] * 5, [NO] * 5])
ALL = jnp.ones((4, 5), bool)
RULES = (correction_rewards, agreement_rewards)


def drawn(seed=0, rows=(6, 3), steps=7, actions=4):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.standard_normal((*rows, steps, actions)), float)
    chosen = jnp.asarray(rng.integers(0, actions, (*rows, steps)))
    likely = rng.random((*rows, steps)) < 0.7
    chosen = jnp.where(likely, jnp.argmax(logits, -1), chosen)
    mask = jnp.asarray(np.arange(steps) < rng.integers(1, steps + 1, (*rows, 1)))
    return logits, chosen, mask


@pytest.mark.parametrize("wide", [False, True])
def test_golden_numbers(wide):
    with jax.enable_x64(wide):
        whole = correction_rewards(AGREES, ALL, by_length=False)
        # Paid twice, fined at the first and the last disagreement; never paid after a first miss.
        np.testing.assert_array_equal(
            whole,
            [[1, 1, -1, 0, -1], [-1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [-1, -1, -1, -1, -1]],
        )
        found = correction_rewards(AGREES, ALL, bonus=2.0, penalty=0.5)
        # a / T = 2/5, b / T = 0.5/5
        np.testing.assert_allclose(found[0], [0.4, 0.4, -0.1, 0.0, -0.1], rtol=1e-6)
        every = agreement_rewards(AGREES, ALL)
        np.testing.assert_allclose(every[0], [0.2, 0.2, -0.2, 0.2, -0.2], rtol=1e-6)
        assert found.dtype == (jnp.float64 if wide else jnp.float32)


def test_golden_soft_rewards():
    logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]))
    found = soft_correction_rewards(
        logits, jnp.array([0, 0, 1]), jnp.ones(3, bool), limit=1.5, by_length=False
    )
    # log(0.5/0.5) = 0; log(0.1/0.8) = -2.079 is cut at -1.5; log(0.2/0.6) = -1.0986.
    np.testing.assert_allclose(found, [1.5, 0.0, 1.5 - 1.0986123], atol=1e-6)


def test_the_hard_limit_of_the_soft_rewards_is_agreement():
    logits, actions, mask = drawn()
    soft = soft_correction_rewards(1e6 * logits, actions, mask, limit=1.0)
    agrees = likeliest_agreement(logits, actions)
    np.testing.assert_allclose(soft, agreement_rewards(agrees, mask, penalty=0.0), atol=1e-6)


def test_one_pass_is_greedy_decoding_up_to_the_divergence():
    """The paper's two phases, decoded token by token from a table that reads what was written."""
    rng = np.random.default_rng(1)
    table = rng.standard_normal((8, 5, 5))  # step, token written before, next token
    diverged = set()
    for _ in range(40):
        answer = [0]
        for t in range(8):
            best = int(table[t, answer[-1]].argmax())
            answer.append(best if rng.random() < 0.7 else int(rng.integers(5)))
        answer = answer[1:]
        written, greedy = 0, []
        for t in range(8):
            written = int(table[t, written].argmax())
            greedy.append(written)
        tau = next((t for t in range(8) if greedy[t] != answer[t]), 8)
        forced = [int(table[t, ([0, *answer])[t]].argmax()) for t in range(8)]
        expected = [1.0 if t < tau else -1.0 * (forced[t] != answer[t]) for t in range(8)]
        logits = jnp.asarray(np.stack([table[t, ([0, *answer])[t]] for t in range(8)]))
        found = seq2seq_token_rewards(
            logits, jnp.asarray(answer), jnp.ones(8, bool), by_length=False
        )
        np.testing.assert_array_equal(found, expected)
        diverged.add(tau)
    assert {0, 8} < diverged  # both ends were met


def test_returns_are_bounded_and_a_copy_is_paid_everywhere():
    logits, actions, mask = drawn(rows=(50,))
    for rule in (correction_rewards, agreement_rewards):
        rewards = rule(likeliest_agreement(logits, actions), mask, bonus=2.0, penalty=0.5)
        totals = rewards.sum(-1)
        assert totals.max() <= 2.0 + 1e-6
        assert totals.min() >= -0.5 - 1e-6
        long = rule(likeliest_agreement(logits, actions), mask, by_length=False).sum(-1)
        assert (jnp.abs(long) <= mask.sum(-1)).all()
    copied = seq2seq_token_rewards(logits, jnp.argmax(logits, -1), mask)
    np.testing.assert_allclose(copied, mask / mask.sum(-1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_steps_that_do_not_count_are_as_if_cut_out(rule):
    rng = np.random.default_rng(3)
    agrees, mask = rng.random((30, 9)) < 0.7, rng.random((30, 9)) < 0.6
    found = np.asarray(rule(jnp.asarray(agrees), jnp.asarray(mask)))
    assert (found[~mask] == 0).all()
    for row, counted, rewards in zip(agrees, mask, found, strict=True):
        kept = jnp.asarray(row[counted])
        np.testing.assert_allclose(rewards[counted], rule(kept, jnp.ones_like(kept)), rtol=1e-6)
    empty = rule(jnp.zeros((2, 3), bool), jnp.zeros((2, 3), bool))
    np.testing.assert_array_equal(empty, 0.0)


def test_logits_that_are_not_numbers_are_not_a_verdict():
    logits, actions, mask = drawn(rows=(2,))
    mask = mask.at[:, 0].set(True).at[:, -1].set(False)
    broken = logits.at[0, 0].set(jnp.nan).at[1, -1].set(jnp.nan)
    found = seq2seq_token_rewards(broken, actions, mask)
    assert jnp.isnan(found[0, 0])
    assert jnp.isfinite(found[1]).all()
    np.testing.assert_array_equal(found[1], seq2seq_token_rewards(logits, actions, mask)[1])


def test_equal_logits_count_for_the_first_and_actions_outside_agree_with_nothing():
    logits = jnp.zeros((4, 3))
    found = likeliest_agreement(logits, jnp.array([0, 1, -1, 7]))
    np.testing.assert_array_equal(found, [True, False, False, False])
    paid = soft_correction_rewards(logits, jnp.array([0, 1, -1, 7]), jnp.ones(4, bool), limit=2.0)
    np.testing.assert_allclose(paid, [0.5, 0.5, 0.0, 0.0])


@pytest.mark.parametrize(
    "rule",
    [
        seq2seq_token_rewards,
        partial(seq2seq_token_rewards, by_length=False, bonus=0.3),
        partial(soft_correction_rewards, limit=1.0),
    ],
)
def test_leading_axes_order_and_jit_change_nothing(rule):
    logits, actions, mask = drawn()
    found = jax.jit(rule)(logits, actions, mask)
    assert found.shape == mask.shape
    np.testing.assert_allclose(found, rule(logits, actions, mask), rtol=1e-6)
    mapped = jax.vmap(jax.vmap(rule))(logits, actions, mask)
    np.testing.assert_allclose(mapped, found, rtol=1e-6)
    backwards = rule(logits[::-1], actions[::-1], mask[::-1])
    np.testing.assert_allclose(backwards, found[::-1], rtol=1e-6)
    np.testing.assert_allclose(
        rule(logits[2, 1], actions[2, 1], mask[2, 1]), found[2, 1], rtol=1e-6
    )


def test_amounts_may_be_traced():
    totals = jax.vmap(
        lambda bonus: correction_rewards(AGREES, ALL, bonus=bonus, by_length=False).sum()
    )(jnp.array([1.0, 2.0]))
    # Paid 2 + 5 times, fined 2 + 1 + 5 times.
    np.testing.assert_array_equal(totals, [-1.0, 6.0])


def test_bad_input_is_named():
    logits, actions, mask = drawn()
    with pytest.raises(TypeError):
        correction_rewards(AGREES, ALL.astype(int))
    with pytest.raises(TypeError):
        agreement_rewards(AGREES.astype(float), ALL)
    with pytest.raises(ValueError, match=r"bonus must be in \[0, inf\)"):
        correction_rewards(AGREES, ALL, bonus=-1.0)
    with pytest.raises(ValueError, match=r"limit must be in \(0, inf\)"):
        soft_correction_rewards(logits, actions, mask, limit=0.0)
    with pytest.raises(TypeError):
        likeliest_agreement(logits, actions.astype(float))
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        seq2seq_token_rewards(logits, actions, mask[..., :-1])
