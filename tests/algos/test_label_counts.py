"""Four learners from counts: by hand, and each against the reward head that it stands for."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.label_counts import count_labels, linear_scores, pool_groups, vote_scores
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.policies.tabular import tabular_reward
from rlhf_jax.types import PreferenceBatch, Trajectory

COUNTS = jnp.array([[[3.0, 1.0], [0.0, 0.0]], [[0.0, 4.0], [2.0, 2.0]]])  # [G, S, 2]


@pytest.fixture
def unchecked():
    """Without the type checker of the test run, which users don't have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_golden_numbers():
    np.testing.assert_array_equal(vote_scores(COUNTS), [[-2.0, 0.0], [4.0, 0.0]])
    np.testing.assert_array_equal(vote_scores(pool_groups(COUNTS)), [[2.0, 0.0]] * 2)
    # One feature, 1 and 0: theta = logit(1 / 4) = -1.0986 for 3 votes against 1, and no prior
    found = linear_scores(COUNTS[0], jnp.array([[1.0], [0.0]]), precision=1e-6)
    np.testing.assert_allclose(found, [-1.0986123, 0.0], rtol=1e-4)


def test_only_what_is_known_is_counted():
    groups = jnp.array([0, 0, 1, 1, 2, -1, 0, 0])
    contexts = jnp.array([0, 0, 1, 1, 0, 0, 2, -1])
    labels = jnp.array([1, 1, 0, -1, 1, 1, 1, 1])
    counts = count_labels(groups, contexts, labels, num_groups=2, num_contexts=2)
    np.testing.assert_array_equal(counts, [[[0, 2], [0, 0]], [[0, 0], [1, 0]]])
    order = jnp.array([7, 2, 0, 5, 1, 3, 6, 4])
    moved = count_labels(
        groups[order], contexts[order], labels[order], num_groups=2, num_contexts=2
    )
    np.testing.assert_array_equal(moved, counts)


def test_a_vote_has_the_signs_of_a_tabular_reward():
    """A reward for each of two answers in three contexts, trained on the same labels."""
    contexts = jnp.repeat(jnp.arange(3), 5)
    labels = jnp.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    counts = count_labels(jnp.zeros(15, int), contexts, labels, num_groups=1, num_contexts=3)

    def answers(actions):
        shape = (15, 1)
        return Trajectory(contexts[:, None], actions.reshape(shape), jnp.ones(shape, bool))

    batch = PreferenceBatch(answers(labels), answers(1 - labels))
    reward, optimizer = tabular_reward(3, 2), optax.sgd(0.5)
    state = init_state(reward.init(jax.random.key(0)), optimizer)
    update = jax.jit(reward_model.make_update(reward, optimizer))
    for _ in range(50):
        state, _ = update(state, batch)
    margins = state.params[:, 1] - state.params[:, 0]
    np.testing.assert_array_equal(jnp.sign(margins), jnp.sign(vote_scores(counts)[0]))


@pytest.mark.long
@pytest.mark.parametrize("x64", [False, True], ids=["float32", "x64"])
def test_a_linear_fit_ends_where_its_gradient_does(x64):
    """sum_s (n sigmoid(z) - n_1) phi + lambda theta = 0, and loops = leading axes."""
    with jax.enable_x64(x64):
        features = jax.random.normal(jax.random.key(0), (8, 3), float)
        counts = jax.random.randint(jax.random.key(1), (2, 2, 8, 2), 0, 5).astype(float)
        found = linear_scores(counts, features, precision=0.1)
        assert found.dtype == features.dtype
        for g in np.ndindex(2, 2):
            alone = linear_scores(counts[g], features, precision=0.1)
            np.testing.assert_allclose(found[g], alone, rtol=1e-4, atol=1e-5)
            theta = jnp.linalg.lstsq(features, found[g])[0]
            excess = counts[g].sum(-1) * jax.nn.sigmoid(found[g]) - counts[g][:, 1]
            slopes = excess @ features + 0.1 * theta
            np.testing.assert_allclose(slopes, 0.0, atol=1e-8 if x64 else 1e-3)


@pytest.mark.long
def test_labels_of_linear_values_are_enough():
    """256 contexts, 2,000 labels of one group: the fit's signs are right where tables guess."""
    bits = 1.0 - 2.0 * ((jnp.arange(256)[:, None] >> jnp.arange(8)) & 1)
    values = bits @ jnp.array([1.0, -0.7, 0.5, 0.3, -0.9, 0.2, 0.4, -0.6])
    contexts = jax.random.randint(jax.random.key(0), (2000,), 0, 256)
    both = jnp.stack([jnp.zeros(2000), values[contexts]], -1)
    labels = bt_labels(jax.random.key(1), both, beta=1.0)
    counts = count_labels(jnp.zeros(2000, int), contexts, labels, num_groups=1, num_contexts=256)
    linear = jnp.mean(jnp.sign(linear_scores(counts, bits, precision=0.01)) == jnp.sign(values))
    votes = jnp.mean(jnp.sign(vote_scores(counts)) == jnp.sign(values))
    assert linear > 0.95 > 0.92 > votes


def test_wrong_arguments_are_named(unchecked):
    ids, sizes = jnp.zeros(2, int), {"num_groups": 2, "num_contexts": 2}
    with pytest.raises(TypeError, match="contexts must be integers"):
        count_labels(ids, ids * 1.0, ids, **sizes)
    with pytest.raises(ValueError, match=r"num_contexts must be in \[1, inf\)"):
        count_labels(ids, ids, ids, **sizes | {"num_contexts": 0})
    with pytest.raises(AssertionError):
        count_labels(ids, ids, ids[:1], **sizes)
    with pytest.raises(ValueError, match=r"precision must be in \(0, inf\)"):
        linear_scores(COUNTS, jnp.ones((2, 1)), precision=0.0)
    with pytest.raises(ValueError, match=r"counts must be in \[0, inf\)"):
        vote_scores(-COUNTS)
    with pytest.raises(AssertionError):
        linear_scores(COUNTS, jnp.ones((3, 1)), precision=0.1)
