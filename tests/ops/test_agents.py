"""Rewards and advantages of two agents, by hand and by enumeration."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.agents import (
    agent_advantages,
    feedback_rewards,
    improvement_rewards,
    labels_match,
    sign_shares,
)

NAN = float("nan")
WEIGHTS = {"improvement_weight": 2.0, "label_weight": 0.5, "format_weight": 0.25}


def test_golden_numbers():
    qualities = jnp.array([[0.0, 1.0, 0.25], [1.0, NAN, NAN]])
    revised = jnp.array([[True, True], [False, False]])
    np.testing.assert_array_equal(improvement_rewards(qualities, revised), [[1, -0.75], [0, 0]])
    improvements = jnp.array([1.0, 1.0, -1.0, 0.0])
    right, formed = jnp.array([True, False, True, True]), jnp.array([True, True, True, False])
    # 2 + 0.5 + 0.25; 0.25; -2 + 0.5 + 0.25; 0.5
    found = feedback_rewards(improvements, right, formed, **WEIGHTS)
    np.testing.assert_allclose(found, [2.75, 0.25, -1.25, 0.5])
    plain = feedback_rewards(improvements, right, formed, conditioned=False, **WEIGHTS)
    np.testing.assert_allclose(plain, [2.75, 2.25, -1.25, 0.5])
    np.testing.assert_allclose(sign_shares(improvements, right), [1 / 3, 1 / 3, 1 / 3])


def test_improvements_add_up_to_the_last_answer_minus_the_draft():
    qualities = jax.random.uniform(jax.random.key(0), (50, 4))
    for rounds in range(4):
        revised = jnp.broadcast_to(jnp.arange(3) < rounds, (50, 3))
        total = improvement_rewards(qualities, revised).sum(-1)
        np.testing.assert_allclose(total, qualities[:, rounds] - qualities[:, 0], atol=1e-6)


def test_every_case_of_a_round():
    """A draft is unsafe, over-refused or fine; labels are said of it; a flag makes a revision."""
    labels = {"fine": (False, False), "unsafe": (True, False), "over": (False, True)}
    rewards = {True: {}, False: {}}
    for true, said, better in product(labels, labels, (False, True)):
        flagged = said != "fine"
        qualities = jnp.array([float(true == "fine"), float(better) if flagged else NAN])
        improvement = improvement_rewards(qualities, jnp.array([flagged]))
        right = labels_match(jnp.array([labels[said]]), jnp.array([labels[true]]))
        for conditioned in (True, False):
            found = feedback_rewards(
                improvement,
                right,
                jnp.ones(1, bool),
                improvement_weight=1.0,
                label_weight=0.0,
                format_weight=0.0,
                conditioned=conditioned,
            )
            rewards[conditioned][true, said, better] = float(found[0])
    paid = {case for case, reward in rewards[True].items() if reward}
    assert paid == {("unsafe", "unsafe", True), ("over", "over", True)}
    assert set(rewards[True].values()) == {0.0, 1.0}  # the conditioned one is never negative
    spoilt = {case for case, reward in rewards[False].items() if reward < 0}
    assert spoilt == {("fine", "unsafe", False), ("fine", "over", False)}
    assert rewards[False]["unsafe", "over", True] == 1.0  # a wrong label that helped


def test_without_improvements_it_is_the_reward_of_a_classifier():
    right = jnp.array([True, False])
    found = feedback_rewards(
        jnp.array([1.0, -1.0]),
        right,
        right,
        improvement_weight=0.0,
        label_weight=1.0,
        format_weight=0.0,
    )
    np.testing.assert_array_equal(found, right.astype(float))


def test_a_label_may_weigh_more_for_some_drafts():
    right = jnp.array([True, True, False])
    pays = {"improvement_weight": 0.0, "format_weight": 0.0}
    found = feedback_rewards(jnp.zeros(3), right, right, label_weight=jnp.arange(1.0, 4.0), **pays)
    np.testing.assert_array_equal(found, [1.0, 2.0, 0.0])
    with pytest.raises(ValueError, match="label_weight must be in"):
        feedback_rewards(jnp.zeros(3), right, right, label_weight=-found, **pays)


@pytest.mark.parametrize("x64", [False, True], ids=["float32", "x64"])
def test_advantages_by_hand(x64):
    """A sample of two tokens paid 2, one of a token paid 0, and a turn that was not taken."""
    with jax.enable_x64(x64):
        returns = jnp.array([2.0, 0.0, NAN])
        kl = jnp.array([[1.0, 2.0], [4.0, NAN], [NAN, NAN]])
        mask = jnp.array([[True, True], [True, False], [False, False]])
        # to go: 2 - 0.5 (1 + 2), 2 - 0.5 2; 0 - 0.5 4: 0.5, 1, -2, of mean -1/6
        found = agent_advantages(returns, kl, mask, beta=0.5, whitened=False)
        np.testing.assert_allclose(found, [[2 / 3, 7 / 6], [-11 / 6, 0], [0, 0]], atol=1e-6)
        # their squares sum to 31 / 6, over 2
        white = agent_advantages(returns, kl, mask, beta=0.5)
        np.testing.assert_allclose(white, found / np.sqrt(31 / 12), rtol=1e-5)
        same = agent_advantages(jnp.ones(3), jnp.zeros((3, 2)), mask, beta=0.0)
        np.testing.assert_array_equal(same, 0.0)  # all right: nothing to learn, and no NaN


@pytest.mark.long
def test_padding_order_and_jit():
    returns = jax.random.normal(jax.random.key(0), (6,))
    kl, mask = jax.random.normal(jax.random.key(1), (6, 3)), jnp.ones((6, 3), bool)
    plain = agent_advantages(returns, kl, mask, beta=0.1)
    padded = agent_advantages(
        returns,
        jnp.pad(kl, ((0, 0), (0, 2)), constant_values=NAN),
        jnp.pad(mask, ((0, 0), (0, 2))),
        beta=0.1,
    )
    np.testing.assert_allclose(padded[:, :3], plain, rtol=1e-5)
    turned = agent_advantages(returns[::-1], kl[::-1], mask, beta=0.1)
    np.testing.assert_allclose(turned[::-1], plain, rtol=1e-5)
    np.testing.assert_allclose(
        jax.jit(lambda r: agent_advantages(r, kl, mask, beta=0.1))(returns), plain, rtol=1e-5
    )


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_out_of_range_are_named(name):
    given = jnp.zeros(1), jnp.zeros(1, bool), jnp.zeros(1, bool)
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, inf\)"):
        feedback_rewards(*given, **(WEIGHTS | {name: -1.0}))
