"""Masked and weighted means, aggregations of token losses, and whitening."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.masking import (
    Mean,
    centred,
    constant_denominator,
    keep_weighted,
    masked_mean,
    masked_sum,
    sequence_mean,
    sequence_mean_of_token_mean,
    token_mean,
    token_weights,
    weighted_mean,
    whiten,
)

X = jnp.array([[1.0, 2.0, jnp.nan], [4.0, jnp.inf, jnp.nan], [jnp.nan] * 3])
MASK = jnp.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)


def test_masked_sums_and_means_golden_numbers():
    np.testing.assert_allclose(masked_sum(X, MASK, axis=-1), [3.0, 4.0, 0.0])
    np.testing.assert_allclose(masked_mean(X, MASK, axis=-1), [1.5, 4.0, 0.0])
    np.testing.assert_allclose(masked_mean(X, MASK), 7.0 / 3.0, rtol=1e-6)
    np.testing.assert_allclose(masked_mean(X, MASK, axis=(0, 1)), 7.0 / 3.0, rtol=1e-6)


def test_masked_mean_gradient_is_the_share_of_each_counted_entry():
    grad = jax.grad(lambda x: masked_mean(x, MASK))(X)
    np.testing.assert_allclose(grad, MASK / 3.0, rtol=1e-6)


def test_mean_of_nothing_is_zero_with_a_zero_gradient():
    empty = jnp.zeros(3, bool)
    mean, grad = jax.value_and_grad(lambda x: masked_mean(x, empty))(jnp.full(3, jnp.nan))
    assert mean == 0.0
    np.testing.assert_array_equal(grad, 0.0)


def test_weighted_mean_golden_number():
    mean = weighted_mean(jnp.array([1.0, 5.0, jnp.nan]), jnp.array([3.0, 0.5, 0.0]))
    np.testing.assert_allclose(mean, (5.5, 3.5))  # 3 * 1 + 0.5 * 5, 3 + 0.5
    np.testing.assert_allclose(mean.value(), 5.5 / 3.5, rtol=1e-6)
    np.testing.assert_allclose(weighted_mean(jnp.array([1.0, 5.0])), (6.0, 2.0))


def test_a_traced_negative_weight_counts_in_neither_sum():
    """Left out above only it would make 2 * 2 / (2 - 1) = 4 of a mean of 2."""
    losses, weights = jnp.array([2.0, 5.0]), jnp.array([2.0, -1.0])
    np.testing.assert_array_equal(jax.jit(weighted_mean)(losses, weights), (4.0, 2.0))
    two_steps, mask = jnp.stack([losses, losses], -1), jnp.ones((2, 2), bool)
    for aggregate in (token_mean, sequence_mean_of_token_mean):
        assert jax.jit(aggregate)(two_steps, mask, weights).value() == 2.0
    np.testing.assert_array_equal(jax.jit(keep_weighted)(losses, weights), [2.0, 0.0])
    assert np.isnan(jax.jit(weighted_mean)(losses, weights * jnp.nan).value())


@pytest.mark.long
def test_micro_batches_add_up_to_the_batch():
    x, weights = jax.random.uniform(jax.random.key(0), (2, 12))
    whole = weighted_mean(x, weights)
    parts = [weighted_mean(x[s], weights[s]) for s in (slice(0, 1), slice(1, 8), slice(8, 12))]
    summed = jax.tree.map(lambda *parts: sum(parts), *parts)
    assert isinstance(summed, Mean)
    np.testing.assert_allclose(summed.value(), whole.value(), rtol=1e-6)
    means = np.mean([part.value() for part in parts])
    assert abs(means - whole.value()) > 1e-3  # a mean of means is another number


def test_token_weights():
    mask = jnp.array([[1, 1, 0], [1, 0, 0]], bool)
    np.testing.assert_array_equal(token_weights(mask), [[1, 1, 0], [1, 0, 0]])
    weighted = token_weights(mask, jnp.array([0.5, 2.0]))
    np.testing.assert_array_equal(weighted, [[0.5, 0.5, 0], [2, 0, 0]])


def test_keep_weighted_stops_nan_gradients():
    weights = jnp.array([2.0, 0.0])

    def loss(x):
        return weighted_mean(jnp.log(keep_weighted(x, weights) + 1.0), weights).value()

    np.testing.assert_array_equal(jax.grad(loss)(jnp.array([1.0, jnp.nan])), [0.5, 0.0])
    x = jnp.array([jnp.nan])
    np.testing.assert_array_equal(keep_weighted(x, None), x)


def test_whiten_golden_numbers():
    x = jnp.array([[1.0, 3.0], [5.0, jnp.nan]])
    mask = jnp.array([[1, 1], [1, 0]], bool)
    # mean 3, squares 4 + 0 + 4 over 3 - 1, standard deviation 2
    np.testing.assert_allclose(whiten(x, mask), [[-1.0, 0.0], [1.0, 0.0]], atol=1e-6)


@pytest.mark.long
def test_whiten_takes_weights_as_repetitions():
    x, mask = jnp.array([1.0, 3.0, 6.0, 100.0]), jnp.array([1, 1, 1, 1], bool)
    weighted = whiten(x, mask, weights=jnp.array([2.0, 1.0, 3.0, 0.0]))
    repeated = whiten(jnp.repeat(x, jnp.array([2, 1, 3, 0])), jnp.ones(6, bool))
    np.testing.assert_allclose(weighted, [*repeated[jnp.array([0, 2, 3])], 0.0], rtol=1e-5)


def test_whiten_has_unit_moments_and_forgets_scale_and_padding():
    x = jax.random.normal(jax.random.key(0), (5, 7))
    mask = jax.random.bernoulli(jax.random.key(1), 0.6, (5, 7))
    white = whiten(x, mask)
    np.testing.assert_allclose(np.mean(white[mask]), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.var(white[mask], ddof=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(whiten(10 * x + 3, mask), white, atol=1e-5)
    noise = jnp.where(mask, x, jnp.nan)
    np.testing.assert_array_equal(whiten(noise, mask), white)


@pytest.mark.long
@pytest.mark.parametrize("value", [33.3, -33.3e6, 1e-20])
def test_whiten_of_equal_numbers_is_exactly_zero(value):
    """The float32 mean of a thousand times 33.3 is not 33.3: whitened, its error was 0.11."""
    x, mask = jnp.full(1000, value), jnp.arange(1000) > 2
    white, back = jax.vjp(lambda x: whiten(x, mask), x)
    np.testing.assert_array_equal(white, 0.0)
    assert bool(jnp.all(jnp.isfinite(back(jnp.ones(1000))[0])))


def test_centred_rounds_on_the_scale_of_the_spread():
    # mean 2^20 + 1.5, every number exact in float32; the sum of the seven would not be
    x = 2.0**20 + jnp.array([0.0, 1.0, 2.0, 3.0, 1.5, 1.5, 1.5])
    expected = [-1.5, -0.5, 0.5, 1.5, 0.0, 0.0, 0.0]
    np.testing.assert_array_equal(centred(x, jnp.ones(7)), expected)
    rows = centred(jnp.stack([x, -x]), jnp.stack([jnp.ones(7), jnp.arange(7.0) % 2]), axis=-1)
    np.testing.assert_array_equal(rows[0], expected)
    # of places 1, 3 and 5: 1, 3, 1.5 with mean 5.5 / 3
    np.testing.assert_allclose(rows[1], [0, 2.5 / 3, 0, -3.5 / 3, 0, 1 / 3, 0], rtol=1e-6)


def test_a_mean_of_scalars_is_a_float():
    assert float(Mean(jnp.float32(3.0), jnp.float32(4.0))) == 0.75
    assert float(Mean(jnp.float32(jnp.nan), jnp.float32(0.0))) == 0.0


@pytest.mark.parametrize("count", [0, 1])
def test_whiten_of_less_than_two_is_zero(count):
    white = whiten(jnp.array([3.0, 4.0]), jnp.arange(2) < count)
    np.testing.assert_array_equal(white, 0.0)


@pytest.mark.parametrize("reduce", [masked_sum, masked_mean, whiten, weighted_mean, keep_weighted])
def test_shapes_must_agree(reduce):
    ones = jnp.ones((1, 3), float if reduce in (weighted_mean, keep_weighted) else bool)
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        reduce(jnp.zeros((2, 3)), ones)


AGGREGATIONS = {
    "token_mean": token_mean,
    "sequence_mean": sequence_mean,
    "sequence_mean_of_token_mean": sequence_mean_of_token_mean,
    "constant_denominator": partial(constant_denominator, length=5),
}
every_aggregation = pytest.mark.parametrize(
    "aggregate", AGGREGATIONS.values(), ids=AGGREGATIONS.keys()
)


def draw_tokens(rows=6, steps=5):
    """Losses, mask with every length from 0 to T, weights with a 0 among them."""
    rng = np.random.default_rng(3)
    mask = np.arange(steps) < np.array([5, 1, 0, 3, 2, 4])[:rows, None]
    losses = np.where(mask, rng.standard_normal((rows, steps)), np.nan).astype(np.float32)
    weights = np.array([1.0, 0.5, 2.0, 0.0, 1.0, 3.0], np.float32)[:rows]
    return jnp.asarray(losses), jnp.asarray(mask), jnp.asarray(weights)


def test_aggregations_golden_numbers():
    losses = jnp.array([[1.0, 2.0, 6.0], [5.0, jnp.nan, jnp.nan]])
    mask = jnp.array([[1, 1, 1], [1, 0, 0]], bool)
    weights = jnp.array([1.0, 0.5])
    # sums per answer 9 and 5, lengths 3 and 1
    expected = {
        "token_mean": ((14.0, 4.0), (9.0 + 2.5, 3.0 + 0.5)),
        "sequence_mean": ((14.0, 2.0), (9.0 + 2.5, 1.5)),
        "sequence_mean_of_token_mean": ((3.0 + 5.0, 2.0), (3.0 + 2.5, 1.5)),
        "constant_denominator": ((14.0, 10.0), (11.5, 7.5)),  # length 5
    }
    for name, (plain, weighted) in expected.items():
        np.testing.assert_allclose(AGGREGATIONS[name](losses, mask), plain, rtol=1e-6)
        np.testing.assert_allclose(AGGREGATIONS[name](losses, mask, weights), weighted, rtol=1e-6)


def test_aggregations_are_the_formulas_of_trl():
    """grpo, bnpo (= dapo in one batch) and dr_grpo, written with loops in float64."""
    losses, mask, _ = draw_tokens()
    counted = [np.asarray(row, np.float64)[m] for row, m in zip(losses, mask, strict=True)]
    rows, tokens = len(counted), sum(len(row) for row in counted)
    grpo = sum(row.sum() / max(len(row), 1) for row in counted) / rows
    pooled = sum(row.sum() for row in counted)
    for aggregate, expected in (
        (sequence_mean_of_token_mean, grpo),
        (token_mean, pooled / tokens),
        (partial(constant_denominator, length=5), pooled / (rows * 5)),
    ):
        np.testing.assert_allclose(aggregate(losses, mask).value(), expected, rtol=1e-5)


@pytest.mark.long
@every_aggregation
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_aggregations_add_over_micro_batches(aggregate, weighted):
    losses, mask, weights = draw_tokens()
    arrays = (losses, mask, weights) if weighted else (losses, mask)

    def value_of(parts, losses):
        means = [aggregate(losses[rows], *(x[rows] for x in arrays[1:])) for rows in parts]
        return jax.tree.map(lambda *x: sum(x), *means).value()

    whole, whole_grad = jax.value_and_grad(partial(value_of, [slice(0, 6)]))(losses)
    parts = [slice(0, 1), slice(1, 4), slice(4, 6)]
    summed, grad = jax.value_and_grad(partial(value_of, parts))(losses)
    np.testing.assert_allclose(summed, whole, rtol=1e-5)
    np.testing.assert_allclose(grad, whole_grad, rtol=1e-5)


@pytest.mark.long
@every_aggregation
def test_aggregations_ignore_what_does_not_count(aggregate):
    losses, mask, weights = draw_tokens()
    value, grad = jax.value_and_grad(lambda x: aggregate(x, mask, weights).value())(losses)
    hidden = losses.at[3].set(jnp.nan)  # weight 0
    same, same_grad = jax.value_and_grad(lambda x: aggregate(x, mask, weights).value())(hidden)
    assert bool(jnp.isfinite(value))
    assert same == value
    assert bool(jnp.all(grad[~mask] == 0.0))
    np.testing.assert_array_equal(same_grad, grad)
    longer = aggregate(jnp.pad(losses, ((0, 0), (2, 3))), jnp.pad(mask, ((0, 0), (2, 3))), weights)
    np.testing.assert_allclose(longer.value(), value, rtol=1e-6)
    order = jnp.array([3, 0, 5, 1, 4, 2])
    shuffled = aggregate(losses[order], mask[order], weights[order])
    np.testing.assert_allclose(shuffled.value(), value, rtol=1e-5)
    deep = aggregate(*(x.reshape(2, 3, *x.shape[1:]) for x in (losses, mask, weights)))
    np.testing.assert_allclose(deep.value(), value, rtol=1e-5)
    jitted = jax.jit(aggregate)(losses, mask, weights)
    np.testing.assert_allclose(jitted.value(), value, rtol=1e-6)


@every_aggregation
def test_aggregations_of_nothing_are_zero(aggregate):
    mask = jnp.zeros((2, 3), bool)
    losses = jnp.full((2, 3), jnp.nan)
    value, grad = jax.value_and_grad(lambda x: aggregate(x, mask).value())(losses)
    assert value == 0.0
    np.testing.assert_array_equal(grad, 0.0)
    np.testing.assert_array_equal(aggregate(losses, mask, jnp.zeros(2)).value(), 0.0)


def test_aggregations_differ_where_lengths_do_and_agree_where_they_do_not():
    losses, mask, _ = draw_tokens()
    values = [float(aggregate(losses, mask).value()) for aggregate in AGGREGATIONS.values()]
    gaps = np.abs(np.subtract.outer(values, values))[np.triu_indices(4, 1)]
    assert np.all(gaps > 1e-3)
    full = jnp.ones((6, 5), bool)
    losses = jax.random.normal(jax.random.key(0), (6, 5))
    tokens = token_mean(losses, full).value()
    np.testing.assert_allclose(sequence_mean_of_token_mean(losses, full).value(), tokens, rtol=1e-5)
    answers = constant_denominator(losses, full, length=5).value()
    np.testing.assert_allclose(answers, tokens, rtol=1e-5)


def test_constant_denominator_reduces_to_the_sequence_mean():
    losses, mask, weights = draw_tokens()
    whole = sequence_mean(losses, mask, weights)
    np.testing.assert_array_equal(constant_denominator(losses, mask, weights, length=1), whole)
    traced = jax.jit(lambda x: constant_denominator(losses, mask, weights, length=x))(7.0)
    np.testing.assert_allclose(traced.value(), whole.value() / 7.0, rtol=1e-6)


@every_aggregation
def test_aggregations_over_a_sharded_batch(aggregate):
    losses, mask, weights = (jnp.concatenate([x, x[:2]]) for x in draw_tokens())
    expected = aggregate(losses, mask, weights)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.NamedSharding(mesh, jax.P("data"))
    arrays = jax.device_put((losses, mask, weights), spread)
    np.testing.assert_allclose(jax.jit(aggregate)(*arrays), expected, rtol=1e-5)


def test_sequence_mean_has_the_gradient_of_summed_log_probs():
    """REINFORCE on answers: -A sum_t log pi, one number per answer."""
    logps, mask, _ = draw_tokens()
    advantages = jnp.linspace(-1.0, 2.0, 6)
    grad = jax.grad(lambda x: sequence_mean(-advantages[:, None] * x, mask).value())(logps)
    np.testing.assert_allclose(grad, -advantages[:, None] * mask / 6.0, rtol=1e-6)


@every_aggregation
def test_shapes_of_aggregations_must_agree(aggregate):
    errors = (AssertionError, jaxtyping.TypeCheckError)
    losses, mask = jnp.zeros((2, 3)), jnp.ones((2, 3), bool)
    with pytest.raises(errors):
        aggregate(losses, mask[:1])
    with pytest.raises(errors):
        aggregate(losses, mask, jnp.ones(1))
    with pytest.raises(errors):
        aggregate(losses, mask, jnp.ones((2, 3)))
