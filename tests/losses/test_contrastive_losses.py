"""Contrastive losses by hand, their items, their codes, and what a mask hides."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.contrastive import difference_items, pair_items, simcse_loss, swav_loss
from rlhf_jax.ops.features import balanced_codes, drop_features

AXES = jnp.eye(2)
SWAV = partial(swav_loss, temperature=0.5, eps=1.0, iterations=1)


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def test_simcse_golden_numbers():
    # cosines [[1, 0.6], [0, 0.8]] over tau = 0.5: rows (2, 1.2) and (0, 1.6), own ones 2 and 1.6:
    # log(1 + e^-0.8) = 0.3711007 and log(1 + e^-1.6) = 0.1839007
    views = jnp.array([[2.0, 0.0], [0.6, 0.8]])
    losses = simcse_loss(3.0 * AXES, views, temperature=0.5)
    np.testing.assert_allclose(losses, [0.3711007, 0.1839007], rtol=1e-6)


def test_swav_golden_numbers():
    # cosines to the two prototypes: s = [[1, 0], [0, 1]], t = [[1, 0], [1, 0]]. One iteration at
    # eps = 1. s: columns have log-sums log(e + 1), so each code is a softmax of (1, 0): 0.7310586.
    # t: columns (1, 1), (0, 0) are made equal: codes 1/2. log softmax of (2, 0) is (-0.1269280,
    # -2.1269280).
    views = jnp.array([[1.0, 0.0], [1.0, 0.0]])
    # item 1: l(h_t, q_s) = 0.7310586 * 0.1269280 + 0.2689414 * 2.1269280 = 0.6648108,
    #         l(h_s, q_t) = (0.1269280 + 2.1269280) / 2 = 1.1269280
    # item 2: l(h_t, q_s) = 0.2689414 * 0.1269280 + 0.7310586 * 2.1269280 = 1.5890452
    losses = SWAV(AXES, views, 2.0 * AXES)
    np.testing.assert_allclose(losses, [1.7917388, 2.7159732], rtol=1e-6)


def test_codes_by_hand_and_balanced():
    with jax.enable_x64(True):
        scores = drawn(12, 3)
        np.testing.assert_allclose(
            balanced_codes(scores, eps=0.5, iterations=0), jax.nn.softmax(2.0 * scores), rtol=1e-12
        )
        codes = balanced_codes(scores, eps=0.5, iterations=200)
        np.testing.assert_allclose(codes.sum(-1), 1.0, rtol=1e-12)
        np.testing.assert_allclose(codes.sum(0), 4.0, rtol=1e-9)  # 12 items over 3 prototypes
        # Q = diag(u) exp(scores / eps) diag(v): double ratios are those of exp(scores / eps).
        logs = jnp.log(codes) - 2.0 * scores
        logs = logs - logs.mean(0) - logs.mean(1, keepdims=True) + logs.mean()
        np.testing.assert_allclose(logs, 0.0, atol=1e-12)


@pytest.mark.long
def test_codes_get_no_gradient():
    """The slope is that of the cross-entropy with the codes held fixed."""
    with jax.enable_x64(True):
        first, second, centres = drawn(6, 4), drawn(6, 4, seed=1), drawn(3, 4, seed=2)

        def unit(x):
            return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

        codes = [balanced_codes(unit(x) @ unit(centres).T) for x in (first, second)]

        def fixed(first, second, centres):
            logps = [jax.nn.log_softmax(unit(x) @ unit(centres).T / 0.3) for x in (first, second)]
            return -jnp.sum(codes[0] * logps[1] + codes[1] * logps[0])

        def loss(*x):
            return jnp.sum(swav_loss(*x, temperature=0.3))

        for argnum in range(3):
            slopes = [jax.grad(f, argnums=argnum)(first, second, centres) for f in (loss, fixed)]
            np.testing.assert_allclose(*slopes, rtol=1e-9, atol=1e-12)


def test_views_that_agree_are_better_than_any_permutation_of_them():
    items = drawn(8, 5)
    same = simcse_loss(items, items, temperature=0.1)
    moved = simcse_loss(items, items[::-1], temperature=0.1)
    assert bool(jnp.all(same < moved))
    # Alike items cannot be told apart: log N.
    equal = simcse_loss(jnp.ones((8, 5)), jnp.ones((8, 5)), temperature=0.1)
    np.testing.assert_allclose(equal, np.log(8.0), rtol=1e-6)


def test_items():
    chosen, rejected = drawn(3, 2), drawn(3, 2, seed=1)
    np.testing.assert_array_equal(pair_items(chosen, rejected)[3:], rejected)
    gaps = difference_items(chosen, rejected)
    assert gaps.shape == (6, 2)
    np.testing.assert_array_equal(gaps[:3], -gaps[3:])
    cosines = jnp.sum(gaps[:3] * gaps[3:], -1) / jnp.sum(gaps[:3] ** 2, -1)
    np.testing.assert_allclose(cosines, -1.0, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["simcse", "swav"])
def test_missing_items_never_matter(name):
    first, second, centres = drawn(6, 4), drawn(6, 4, seed=1), drawn(3, 4, seed=2)
    exists = jnp.array([True, False, True, True, False, True])

    def loss(first, second, mask):
        extra = () if name == "simcse" else (centres,)
        function = simcse_loss if name == "simcse" else swav_loss
        return function(first, second, *extra, mask, temperature=0.3)

    losses = loss(first, second, exists)
    np.testing.assert_array_equal(losses[~exists], 0.0)
    cut = loss(first[exists], second[exists], None)
    np.testing.assert_allclose(losses[exists], cut, rtol=1e-5)
    spoiled = [jnp.where(exists[:, None], x, jnp.nan) for x in (first, second)]
    np.testing.assert_array_equal(loss(*spoiled, exists), losses)
    slopes = jax.grad(lambda x: jnp.sum(loss(x, spoiled[1], exists)))(spoiled[0])
    np.testing.assert_array_equal(slopes[~exists], 0.0)
    assert bool(jnp.all(jnp.isfinite(slopes)))


def test_dropout_keeps_the_mean_and_none_keeps_all():
    features = jnp.ones((4, 20_000))
    np.testing.assert_array_equal(drop_features(features, None, rate=0.05), features)
    dropped = drop_features(features, jax.random.key(0), rate=0.05)
    values = np.unique(dropped)
    np.testing.assert_allclose(values, [0.0, 1 / 0.95], rtol=1e-6)
    # share of zeros in 80,000 draws: 0.05 +- 5 * sqrt(0.05 * 0.95 / 80000) = 0.0039
    assert abs(float(jnp.mean(dropped == 0)) - 0.05) < 0.0039
