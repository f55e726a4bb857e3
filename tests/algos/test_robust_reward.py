"""Updates of robust reward models: against the gradients of their risks, and on a transformer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import reward_model, robust_reward
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.robust_reward import (
    AdversarialParams,
    correlation_risk,
    init_group_dro,
    irm_risk,
    make_adversarial_update,
    make_copies_update,
    make_group_dro_update,
    mmd_risk,
    vrex_risk,
)
from rlhf_jax.losses import bradley_terry_loss
from rlhf_jax.losses.robust_reward import (
    correlation_penalty,
    irm_loss,
    mmd_penalty,
    vrex_loss,
    worst_copy_loss,
)
from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.policies.language import language_reward, language_trajectory
from rlhf_jax.policies.latent import vector_trajectory
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.types import PreferenceBatch

ROWS, WIDTH = 6, 3
SGD, REWARD = optax.sgd(1.0), linear_reward(WIDTH)
IDS = jnp.array([0, 1, 1, 0, 1, 1])
FIRST = jnp.array([0.3, -0.2, 0.5])
KEPT = jnp.ones(ROWS, bool)


def vectors(seed, *lead):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal((*(lead or (ROWS,)), WIDTH)), jnp.float32)


CHOSEN, REJECTED = vectors(0), vectors(1)
LENGTHS = vectors(2)[:, 0]


def batch_of(chosen=CHOSEN, rejected=REJECTED, **more):
    return PreferenceBatch(vector_trajectory(chosen), vector_trajectory(rejected), **more)


def margins(w):
    return (CHOSEN - REJECTED) @ w


def losses(w):
    return bradley_terry_loss(margins(w), jnp.zeros(ROWS))


IN_ENVIRONMENTS = {"environments": IDS}
PLACES = (IDS, KEPT)
RISKS = {
    "vrex": (
        partial(vrex_risk, count=2, penalty=3.0),
        IN_ENVIRONMENTS,
        lambda w: vrex_loss(losses(w), *PLACES, count=2, penalty=3.0),
    ),
    "irm": (
        partial(irm_risk, count=2, penalty=3.0),
        IN_ENVIRONMENTS,
        lambda w: irm_loss(margins(w), *PLACES, count=2, penalty=3.0),
    ),
    "mmd": (
        partial(mmd_risk, count=2, penalty=3.0, bandwidth=0.5),
        IN_ENVIRONMENTS,
        lambda w: losses(w).mean() + 3.0 * mmd_penalty(margins(w), *PLACES, count=2, bandwidth=0.5),
    ),
    "correlation": (
        partial(correlation_risk, penalty=3.0),
        {"features": LENGTHS},
        lambda w: losses(w).mean() + 3.0 * correlation_penalty(margins(w), LENGTHS, KEPT),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", RISKS)
def test_a_step_is_the_gradient_of_the_risk(name):
    risk, columns, whole = RISKS[name]
    update = robust_reward.make_update(REWARD, SGD, risk=risk)
    state, metrics = update(init_state(FIRST, SGD), batch_of(columns=columns))
    np.testing.assert_allclose(FIRST - state.params, jax.grad(whole)(FIRST), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(float(metrics["loss"]), whole(FIRST), rtol=1e-5)


def test_without_penalty_balanced_environments_are_plain_bradley_terry():
    even = {"environments": jnp.array([0, 1, 0, 1, 0, 1])}
    plain = reward_model.make_update(REWARD, SGD)(init_state(FIRST, SGD), batch_of())[0]
    for risk in (vrex_risk, irm_risk, mmd_risk):
        update = robust_reward.make_update(REWARD, SGD, risk=partial(risk, count=2, penalty=0.0))
        state, _ = update(init_state(FIRST, SGD), batch_of(columns=even))
        np.testing.assert_allclose(state.params, plain.params, rtol=1e-5)


def test_pairs_of_weight_zero_never_matter():
    """Nor does an environment that does not exist."""
    weights = jnp.ones(ROWS).at[2].set(0.0)
    risk = partial(vrex_risk, count=2, penalty=3.0)
    update = robust_reward.make_update(REWARD, SGD, risk=risk)
    ends = []
    for junk, wrong in ((0.0, 0), (1e3, 9)):
        columns = {"environments": IDS.at[2].set(wrong)}
        batch = batch_of(CHOSEN.at[2].set(junk), weights=weights, columns=columns)
        ends.append(update(init_state(FIRST, SGD), batch)[0].params)
    np.testing.assert_array_equal(*ends)
    rest = np.array([0, 1, 3, 4, 5])
    without = batch_of(CHOSEN[rest], REJECTED[rest], columns={"environments": IDS[rest]})
    alone = update(init_state(FIRST, SGD), without)[0].params
    np.testing.assert_allclose(ends[0], alone, rtol=1e-5)


def test_group_dro_moves_weight_first_and_then_the_reward():
    update = make_group_dro_update(REWARD, SGD, count=3, eta=0.5)
    start = init_group_dro(FIRST, SGD, count=3)
    state, metrics = update(start, batch_of(columns=IN_ENVIRONMENTS))
    risks = jnp.array([losses(FIRST)[e == IDS].mean() for e in (0, 1)])
    # The third environment has no pairs and keeps its third.
    moved = 2 / 3 * jax.nn.softmax(0.5 * risks)
    np.testing.assert_allclose(state.weights, [*moved, 1 / 3], rtol=1e-5)

    def weighted(w):
        return sum(moved[e] * losses(w)[e == IDS].mean() for e in (0, 1))

    slope = jax.grad(weighted)(FIRST)
    np.testing.assert_allclose(FIRST - state.train.params, slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(float(metrics["environments/worst"]), risks.max(), rtol=1e-5)
    np.testing.assert_allclose(
        float(metrics["environments/weight"]), moved[jnp.argmax(risks)], rtol=1e-5
    )


@pytest.mark.long
def test_an_adversary_learns_to_tell_and_the_features_to_hide():
    """Features are the params times the inputs; the discriminator is pulled down its own loss, the
    params up that loss, on top of Bradley-Terry."""

    def features(params, trajectory):
        return (trajectory.inputs * params)[..., 0, :]

    discriminator = (jnp.eye(WIDTH, 2), jnp.zeros(2))
    update = make_adversarial_update(REWARD, features, SGD, scale=0.5)
    start = init_state(AdversarialParams(FIRST, discriminator), SGD)
    columns = {"chosen_groups": IDS, "rejected_groups": 1 - IDS}
    state, metrics = update(start, batch_of(columns=columns))

    def told(w, weights, biases):
        x, ids = jnp.concatenate([CHOSEN, REJECTED]), jnp.concatenate([IDS, 1 - IDS])
        logits = (x * w) @ weights + biases
        return optax.softmax_cross_entropy_with_integer_labels(logits, ids).mean()

    slopes = jax.grad(told, argnums=(0, 1, 2))(FIRST, *discriminator)
    hidden = jax.grad(lambda w: losses(w).mean())(FIRST) - 0.5 * slopes[0]
    np.testing.assert_allclose(FIRST - state.params.reward, hidden, rtol=1e-4, atol=1e-6)
    for before, after, slope in zip(
        discriminator, state.params.discriminator, slopes[1:], strict=True
    ):
        np.testing.assert_allclose(before - after, slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        float(metrics["discriminator"]), told(FIRST, *discriminator), rtol=1e-5
    )


@pytest.mark.parametrize("worst", [False, True])
def test_copies(worst):
    """Two copies of each pair, the second of the last one missing."""
    chosen, rejected = vectors(3, ROWS, 2), vectors(4, ROWS, 2)
    mask = jnp.ones((ROWS, 2)).at[-1, 1].set(0.0)
    update = make_copies_update(REWARD, SGD, worst=worst, consistency=0.7)
    batch = batch_of(chosen, rejected, weights=mask)
    state, _ = update(init_state(FIRST, SGD), batch)

    def whole(w):
        z = (chosen - rejected) @ w
        each = bradley_terry_loss(z, jnp.zeros_like(z))
        one = worst_copy_loss(each, mask > 0) if worst else each.mean(1).at[-1].set(each[-1, 0])
        variance = ((z - z.mean(1, keepdims=True)) ** 2).mean(1).at[-1].set(0.0)
        return (one + 0.7 * variance).mean()

    np.testing.assert_allclose(FIRST - state.params, jax.grad(whole)(FIRST), rtol=1e-4, atol=1e-6)


def test_a_negative_consistency_is_refused():
    with pytest.raises(ValueError, match="consistency must be"):
        make_copies_update(REWARD, SGD, consistency=-1.0)
    with pytest.raises(ValueError, match="count must be"):
        init_group_dro(FIRST, SGD, count=0)


CONFIG = TransformerConfig(
    vocab_size=11, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=16
)


def text_pairs(ids):
    """Pairs of ids [*B, 2, 4]; the first id is the prompt."""
    whole = jnp.ones(ids[..., 0, :].shape, bool)
    sides = (
        language_trajectory(x[..., :1], whole[..., :1], x[..., 1:], whole[..., 1:])
        for x in (jnp.asarray(ids[..., side, :]) for side in (0, 1))
    )
    return PreferenceBatch(*sides)


@pytest.mark.long
def test_a_transformer_stops_reading_the_mark_with_copies():
    """Token 5 stands in every chosen answer and in no other; quality is token 3."""
    ids = np.random.default_rng(0).integers(1, 3, (32, 2, 4))
    ids[:, 0, 2] = 3
    marked, turned = ids.copy(), ids.copy()
    marked[:, 0, 3] = turned[:, 1, 3] = 5
    reward, adam = language_reward(make_reward_model(CONFIG)), optax.adam(0.03)
    trainings = (
        (reward_model.make_update(reward, adam), text_pairs(marked)),
        (
            make_copies_update(reward, adam, worst=True),
            text_pairs(np.stack([marked, turned], axis=1)),
        ),
    )
    right, test = [], text_pairs(turned)
    for update, batch in trainings:
        state, step = init_state(reward.init(jax.random.key(0)), adam), jax.jit(update)
        for _ in range(40):
            state, _ = step(state, batch)
        scores = [reward.scores(state.params, x) for x in (test.chosen, test.rejected)]
        right.append(float(jnp.mean(scores[0] > scores[1])))
    assert right[0] < 0.5
    assert right[1] == 1.0
