"""What every function that reads or combines rewards owes: jit, leading axes, order, dtype.

Losses have `losses/test_contract.py`; these are the steps around them.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.feedback.queries import mixture_information, variance_information
from rlhf_jax.feedback.strengths import flipped_prefs, softened_prefs, weakest_pairs
from rlhf_jax.losses.feedback import verdict_prefs
from rlhf_jax.losses.pairwise_gradient import binary_pairwise_rewards, pairwise_rewards
from rlhf_jax.ops.ensembles import MemberScale, preference_strengths, standardised_scores
from rlhf_jax.ops.entailment import entailment_log_odds, scores_under, signed_log_odds
from rlhf_jax.ops.games import score_win_rates
from rlhf_jax.ops.groups import pairwise_advantages, score_spread
from rlhf_jax.ops.mismatch import label_ceiling, order_accuracy, policy_covariance, rank_correlation
from rlhf_jax.ops.segments import level_changes, paid_at_the_end, sign_rewards
from rlhf_jax.ops.verdicts import (
    majority_verdicts,
    verdict_credits,
    verdict_gaps,
    verdict_rewards,
)

LEAD = (4, 3)


class Step(NamedTuple):
    """function: of arrays with free leading axes. tails: their other axes; "bool", "int" and
    "sign" in front of one name its entries. smooth: whether it has a gradient to check."""

    function: Callable
    tails: tuple[tuple, ...]
    smooth: bool = True


def members_last(function, *arrays):
    """Members, principles or answers come first in these functions."""
    return function(*(jnp.moveaxis(x, -1, 0) for x in arrays))


def standardised(scores):
    """[*B, N] of three members."""
    scale = MemberScale(jnp.array([0.5, -1.0, 2.0]), jnp.array([1.0, 0.1, 3.0]))
    found = standardised_scores(
        jnp.moveaxis(scores, -1, 0),
        scale._replace(mean=scale.mean.astype(scores.dtype), std=scale.std.astype(scores.dtype)),
    )
    return jnp.moveaxis(found, 0, -1)


def information(means, log_variances):
    """[*B] of posteriors [*B, k, M] after M = 3 answers."""
    weights = jnp.array([0.5, 0.3, 0.2], means.dtype)
    return members_last(partial(mixture_information, weights=weights), means, log_variances)


def means_of(function):
    return lambda *scores: members_last(function, *scores).means


def stds_of(function):
    return lambda *scores: members_last(function, *scores).stds


STEPS = {
    "strength": Step(means_of(preference_strengths), ((3,), (3,)), smooth=False),
    "spread of strengths": Step(stds_of(preference_strengths), ((3,), (3,)), smooth=False),
    "standardised": Step(standardised, ((3,),)),
    "score spread": Step(score_spread, ((4,),)),
    "log-odds": Step(partial(entailment_log_odds, yes=(1, 4), no=(0,)), ((6,),)),
    "signed log-odds": Step(partial(signed_log_odds, clip=9.0), ((), ("bool",))),
    "pairwise reward": Step(pairwise_rewards, ((),), smooth=False),
    "binary pairwise reward": Step(binary_pairwise_rewards, ((),), smooth=False),
    "two-order probability": Step(verdict_prefs, ((2, 2),), smooth=False),
    "win rates": Step(score_win_rates, ((4,), (5,))),
    "gaps of verdicts": Step(verdict_gaps, ((3, 3),)),
    "pairwise advantages": Step(lambda z: pairwise_advantages(verdict_gaps(z)), ((3, 3),)),
    "rule of a judge": Step(verdict_rewards, (("sign",), ("sign",)), smooth=False),
    "votes": Step(majority_verdicts, ((5,),), smooth=False),
    "credits": Step(verdict_credits, (("sign",), ("sign",)), smooth=False),
    "changes of a level": Step(level_changes, ((5,), ("bool", 5))),
    "paid at the end": Step(paid_at_the_end, ((5,), ("bool", 5))),
    "signs": Step(sign_rewards, ((5,),), smooth=False),
    "ceiling of labels": Step(partial(label_ceiling, temperature=2.0), ((),)),
    "order accuracy": Step(order_accuracy, ((6,), (6,)), smooth=False),
    "rank correlation": Step(rank_correlation, ((6,), (6,)), smooth=False),
    "covariance": Step(policy_covariance, ((5,), (5,), (5,))),
    "information": Step(information, ((2, 3), (2, 3))),
    "information by variances": Step(partial(members_last, variance_information), ((2, 3),)),
}


def drawn(tails, dtype, lead=LEAD):
    """Arrays of a step; numbers near 1, apart from each other and from 0."""
    rng, found = np.random.default_rng(0), []
    for tail in tails:
        kind, size = (tail[0], tail[1:]) if tail and isinstance(tail[0], str) else ("", tail)
        normal = rng.standard_normal((*lead, *size))
        if kind == "bool":
            found.append(jnp.asarray(normal > -0.5))
        elif kind == "sign":
            found.append(jnp.asarray(np.sign(normal) * rng.integers(1, 4, normal.shape), dtype))
        else:
            found.append(jnp.asarray(normal + 0.1 * np.sign(normal), dtype))
    return tuple(found)


@pytest.mark.parametrize("name", STEPS)
def test_jit_is_eager_leading_axes_are_free_and_gradients_are_finite_differences(name):
    """Eager in float32 = jit in float64 = vmap = one row alone = the rows in another order."""
    function, tails, smooth = STEPS[name]
    eager = np.asarray(function(*drawn(tails, jnp.float32)))
    assert eager.dtype == np.float32
    assert np.isfinite(eager).all()
    assert len(np.unique(eager)) > 1

    def forms(*arrays):
        mapped = jax.vmap(jax.vmap(function))(*arrays)
        turned = function(*(x[::-1] for x in arrays))[::-1]
        return function(*arrays), mapped, turned, function(*(x[2, 1] for x in arrays))

    def slopes(*arrays):
        """Of a weighted sum along the real arrays themselves, by calculus and by differences."""
        real = [i for i, x in enumerate(arrays) if x.dtype != bool]

        def total(step):
            moved = [x * (1 + step) if i in real else x for i, x in enumerate(arrays)]
            found = function(*moved)
            return jnp.sum(found * jnp.cos(jnp.arange(found.size)).reshape(found.shape))

        return jax.grad(total)(0.0), (total(1e-5) - total(-1e-5)) / 2e-5

    with jax.enable_x64(True):
        arrays = drawn(tails, jnp.float64)
        both = jax.jit(lambda *x: (forms(*x), slopes(*x) if smooth else (0.0, 0.0)))
        (whole, mapped, turned, alone), (slope, expected) = both(*arrays)
    assert whole.dtype == jnp.float64
    np.testing.assert_allclose(eager, whole, rtol=1e-4, atol=1e-5)
    for other, same in ((mapped, whole), (turned, whole), (alone, whole[2, 1])):
        np.testing.assert_allclose(other, same, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)


def test_scores_under_principles_have_free_leading_axes():
    scores = jnp.arange(24.0).reshape(2, 4, 3)  # [principles, *answers]
    numbers = jnp.asarray(np.random.default_rng(0).integers(0, 2, (4, 3)))
    whole = scores_under(scores, numbers)
    mapped = jax.jit(jax.vmap(scores_under, (1, 0)))(scores, numbers)
    np.testing.assert_array_equal(mapped, whole)
    np.testing.assert_array_equal(scores_under(scores[:, 2], numbers[2]), whole[2])


def test_repaired_labels_are_the_same_under_jit_and_in_another_order():
    strengths = jnp.array([0.3, -1.0, 0.2, 2.0, -0.2])
    for repair, dtype in (
        (partial(weakest_pairs, share=0.4), bool),
        (partial(flipped_prefs, share=0.4), np.float32),
        (partial(softened_prefs, label_smoothing=0.3), np.float32),
    ):
        whole = repair(strengths)
        assert whole.dtype == dtype
        np.testing.assert_array_equal(jax.jit(repair)(strengths), whole)
        np.testing.assert_array_equal(repair(strengths[::-1])[::-1], whole)
