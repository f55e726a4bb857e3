"""GMPO and the high-entropy mask: by hand, against NumPy, in their limits."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.losses.answer_policy_gradient import gmpo_loss, gspo_loss
from rlhf_jax.losses.group_policy_gradient import high_entropy_mask
from rlhf_jax.losses.policy_gradient import asymmetric_clip_loss

CLIP = {"clip_eps_low": 0.4, "clip_eps_high": 0.3}
# Log-ratios of two answers; the last token of the first is padding.
GAPS = jnp.array([[0.5, -0.6, 9.0], [0.5, -0.6, 0.1]])
MASK = jnp.array([[True, True, False], [True, True, True]])
OLD = -jnp.array([[1.0, 2.0, 0.3], [0.5, 0.1, 4.0]])
properties = settings(derandomize=True, deadline=None, max_examples=25)


def value_and_grad(loss, logps, *data):
    """Losses, and the gradient of their sum to the log-probs."""
    return loss(logps, *data), jax.grad(lambda x: jnp.sum(loss(x, *data)))(logps)


def draw_answers(seed, shape=(6, 5)):
    """NumPy float64: log-probs, old log-probs, advantages, mask."""
    rng = np.random.default_rng(seed)
    old = -np.exp(rng.standard_normal(shape))
    new = old + 0.5 * rng.standard_normal(shape)
    mask = np.arange(shape[-1]) < rng.integers(1, shape[-1] + 1, (*shape[:-1], 1))
    return new, old, rng.standard_normal(shape[:-1]), mask


def as_jax(arrays):
    return tuple(jnp.asarray(x, bool if x.dtype == bool else jnp.float32) for x in arrays)


def test_gmpo_golden_numbers():
    # A = 2: (min(0.5, 0.3) - 0.6) / 2 = -0.15, so -2 e^-0.15 = -1.7214160; slope -1.7214160 / 2
    # where not clipped. A = -1: (0.5 + max(-0.6, -0.4) + 0.1) / 3 = 0.2 / 3, so e^0.0666667 =
    # 1.0689391; slope a third of it where not clipped.
    losses, grad = value_and_grad(
        partial(gmpo_loss, **CLIP), OLD + GAPS, OLD, jnp.array([2.0, -1.0]), MASK
    )
    np.testing.assert_allclose(losses, [-1.7214160, 1.0689391], rtol=1e-5)
    slopes = [[0.0, -0.8607080, 0.0], [0.3563130, 0.0, 0.3563130]]
    np.testing.assert_allclose(grad, slopes, rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_gmpo_is_the_geometric_mean_of_clipped_tokens(seed):
    """The paper's form: root of the product of |A| times the pessimistic ratio, signed."""
    new, old, advantages, mask = draw_answers(seed)
    expected, clipped_somewhere = [], False
    for row in range(len(new)):
        size, sign = abs(advantages[row]), np.sign(advantages[row])
        ratios = np.exp((new - old)[row][mask[row]])
        clipped = np.clip(ratios, np.exp(-0.4), np.exp(0.3))
        terms = np.minimum(sign * size * ratios, sign * size * clipped)
        clipped_somewhere |= np.any(terms != sign * size * ratios)
        expected.append(-sign * np.prod(np.abs(terms)) ** (1 / len(terms)))
    assert clipped_somewhere
    losses = gmpo_loss(*as_jax((new, old, advantages, mask)), **CLIP)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.long
def test_gmpo_of_one_token_is_the_asymmetric_clip():
    new, old, advantages, _ = as_jax(draw_answers(2, shape=(40, 1)))
    losses, grad = value_and_grad(
        partial(gmpo_loss, **CLIP), new, old, advantages, jnp.ones((40, 1), bool)
    )
    clips = {"clip_eps_low": 1 - np.exp(-0.4), "clip_eps_high": np.exp(0.3) - 1}
    clip = partial(asymmetric_clip_loss, **clips)
    expected, expected_grad = value_and_grad(clip, new[:, 0], old[:, 0], advantages)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(grad[:, 0], expected_grad, rtol=1e-5)
    assert 0 < np.sum(grad == 0.0) < 40


def test_gmpo_clips_tokens_where_gspo_clips_answers():
    """One token far off beside an equal one the other way: GSPO sees nothing, GMPO half of it."""
    old = jnp.zeros((1, 2))
    new = jnp.array([[1.0, -1.0]])
    answers = (new, old, jnp.ones(1), jnp.ones((1, 2), bool))
    np.testing.assert_allclose(gspo_loss(*answers, **CLIP), [-1.0])
    np.testing.assert_allclose(gmpo_loss(*answers, **CLIP), [-np.exp(-0.35)], rtol=1e-6)


@properties
@given(st.integers(0, 1000))
def test_gmpo_is_pessimistic(seed):
    """The clip never lowers the loss, and a good answer earns at most A exp(eps_high)."""
    answers = as_jax(draw_answers(seed))
    clipped = gmpo_loss(*answers, **CLIP)
    plain = gmpo_loss(*answers, clip_eps_low=jnp.inf, clip_eps_high=jnp.inf)
    assert np.all(clipped >= plain - 1e-5 * np.abs(plain))
    best = -np.abs(answers[2]) * np.exp(0.3) * (1 + 1e-5)
    assert np.all(clipped >= best)


ENTROPIES = jnp.array([[0.1, 0.9, 0.4, jnp.nan], [0.3, 0.2, jnp.inf, -1.0]])
COUNTED = jnp.array([[True, True, True, False], [True, True, False, False]])


@pytest.mark.parametrize(
    ("quantile", "kept"),
    [
        # Counted, in order: 0.1 0.2 0.3 0.4 0.9, at quantiles 0, 1/4, 1/2, 3/4, 1.
        (0.0, [[1, 1, 1, 0], [1, 1, 0, 0]]),
        (0.2, [[0, 1, 1, 0], [1, 1, 0, 0]]),  # threshold 0.1 + 0.8 * 0.1 = 0.18
        (0.5, [[0, 1, 1, 0], [1, 0, 0, 0]]),  # 0.3: it is kept itself
        (0.7, [[0, 1, 1, 0], [0, 0, 0, 0]]),  # 0.3 + 0.8 * 0.1 = 0.38
        (0.8, [[0, 1, 0, 0], [0, 0, 0, 0]]),  # 0.4 + 0.2 * 0.5 = 0.5
        (1.0, [[0, 1, 0, 0], [0, 0, 0, 0]]),
    ],
)
def test_high_entropy_mask_golden_numbers(quantile, kept):
    keep = high_entropy_mask(ENTROPIES, COUNTED, quantile=quantile)
    assert keep.dtype == bool
    np.testing.assert_array_equal(keep, np.array(kept, bool))


@properties
@given(st.integers(0, 1000), st.floats(0.0, 1.0, width=32))
def test_high_entropy_mask_equals_numpy(seed, quantile):
    """With ties: entropies of four values."""
    rng = np.random.default_rng(seed)
    entropies = rng.choice([0.1, 0.7, 1.3, 2.9], (4, 6)).astype(np.float32)
    mask = rng.random((4, 6)) < 0.7
    mask[0, 0] = True
    keep = np.asarray(
        high_entropy_mask(jnp.asarray(entropies), jnp.asarray(mask), quantile=quantile)
    )
    counted = np.sort(entropies[mask])
    threshold = np.quantile(counted, quantile)
    clear = np.abs(entropies - threshold) > 1e-4  # on it, rounding in NumPy may decide
    np.testing.assert_array_equal(keep[clear], (mask & (entropies >= threshold))[clear])
    # Whatever is tied stays together, and the rank above the quantile is in.
    assert set(entropies[keep]).isdisjoint(entropies[mask & ~keep])
    assert np.all(keep[mask & (entropies >= counted[int(np.ceil(quantile * (len(counted) - 1)))])])


def test_high_entropy_mask_of_ties_keeps_them():
    """Interpolating between equal numbers must not end above them."""
    for value in (0.1, 0.3, 1.7, 3.3):
        entropies, mask = jnp.full((3, 7), value), jnp.ones((3, 7), bool)
        for quantile in np.linspace(0, 1, 23):
            assert np.all(high_entropy_mask(entropies, mask, quantile=float(quantile)))


def test_high_entropy_mask_has_one_threshold_for_the_batch():
    """Of two answers, the more certain one may lose all its tokens."""
    entropies = jnp.array([[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]])
    mask = jnp.ones((2, 3), bool)
    keep = high_entropy_mask(entropies, mask, quantile=0.5)
    np.testing.assert_array_equal(keep, [[False] * 3, [True] * 3])
    alone = high_entropy_mask(entropies[:1], mask[:1], quantile=0.5)
    np.testing.assert_array_equal(alone, [[False, True, True]])


def test_high_entropy_mask_of_nothing():
    entropies = jnp.full((2, 3), jnp.nan)
    assert not np.any(high_entropy_mask(entropies, jnp.zeros((2, 3), bool), quantile=0.8))
    assert high_entropy_mask(jnp.zeros((2, 0)), jnp.zeros((2, 0), bool), quantile=0.8).size == 0


def test_high_entropy_mask_under_jit_and_vmap():
    quantiles = jnp.array([0.0, 0.5, 0.8])
    keep = jax.jit(jax.vmap(lambda q: high_entropy_mask(ENTROPIES, COUNTED, quantile=q)))(quantiles)
    np.testing.assert_array_equal(keep[0], COUNTED)
    for row, quantile in zip(keep, quantiles, strict=True):
        np.testing.assert_array_equal(row, high_entropy_mask(ENTROPIES, COUNTED, quantile=quantile))
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        high_entropy_mask(ENTROPIES, COUNTED[:1], quantile=0.5)
