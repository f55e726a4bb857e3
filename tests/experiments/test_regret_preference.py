"""The regret_preference experiment: what can be identified, exactly, and claims that can fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.regret_preference import claims as regret_claims
from experiments.regret_preference import config as regret_config
from experiments.regret_preference import run as regret_run
from experiments.regret_preference.learners import (
    MODELS,
    Prior,
    Segments,
    advantage_features,
    draw_prefs,
    fit_weights,
    fit_with_prior,
    sample_segments,
    summed_features,
    utilities,
)
from experiments.regret_preference.stages import PRIORS
from rlhf_jax.envs.gridworlds import delivery_world, step_features, under_weights
from rlhf_jax.envs.random_boards import lottery_board
from rlhf_jax.exact import discounted_mdp
from rlhf_jax.losses.reward import partial_returns, segment_regrets, soft_bradley_terry_loss
from rlhf_jax.training import open_run

ASKED = {
    (f"{size} {labels} labels: {what}", op, threshold)
    for labels in ("noiseless", "logistic")
    for what, op, threshold, sizes in (
        ("boards where regret > 0.9", ">=", 0.95, (30, 100, 300, 1000)),
        ("boards regret loses", "<=", 0.05, (30, 100, 300, 1000)),
        ("boards where partial return > 0.9", "<=", 0.85, (30, 100, 300)),
    )
    for size in sizes
}
WEIGHTS = (-1.0, 5.0, -10.0, 1.0, -2.0, -2.0)
# One compilation each, of few shapes.
seen_by = jax.jit(utilities, static_argnames=("model",))
optimal = jax.jit(discounted_mdp.optimal)
CONSTANT = (1.0, 1.0, 0.0, 0.0, 0.0, 0.0)  # on blank cells and a goal every step has sum 1


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def world():
    cells = jnp.zeros((3, 3), int).at[2, 2].set(1)
    return delivery_world(cells, jnp.array(WEIGHTS))


def every_segment(world, *, length=3):
    """All segments of three actions from cells that are no end: states, actions, mask."""
    lands = np.argmax(world.mdp.transitions, axis=-1)
    actions = np.stack(np.meshgrid(*[np.arange(4)] * length, indexing="ij"), -1).reshape(-1, length)
    actions = np.tile(actions, (8, 1))
    states = np.zeros((len(actions), length + 1), int)
    states[:, 0] = np.repeat(np.arange(8), 4**length)
    for t in range(length):
        states[:, t + 1] = lands[states[:, t], actions[:, t]]
    return jnp.array(states), jnp.array(actions), jnp.array(states[:, :-1] != 8)


def as_segments(world, states, actions, mask):
    features = step_features(world, states[:, :-1], states[:, 1:])
    return Segments(features, states, actions, mask)


@pytest.mark.long
def test_a_constant_is_invisible_to_partial_returns_of_equal_length_but_not_to_the_policy(world):
    states, actions, mask = every_segment(world)
    whole = mask.all(-1)
    assert 0.8 < whole.mean() < 1
    segments = as_segments(world, states[whole], actions[whole], mask[whole])
    shifted = world.weights + 2 * jnp.array(CONSTANT)
    seen = [
        seen_by(weights, world, segments, model="partial return")
        for weights in (world.weights, shifted)
    ]
    np.testing.assert_allclose(seen[1] - seen[0], 6, rtol=1e-12)
    pairs = jax.random.randint(jax.random.key(0), (200, 2), 0, len(seen[0]))
    prefs = draw_prefs(jax.random.key(1), seen[0][pairs], noisy=True)
    losses = [soft_bradley_terry_loss(u[pairs[:, 0]], u[pairs[:, 1]], prefs) for u in seen]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)
    # Under one reward it is best to end the episode, under the other never to.
    plans = [optimal(under_weights(world, w)) for w in (world.weights, shifted)]
    beside = 2 * 3 + 1
    assert np.exp(plans[0].logps[beside, 3]) == 1
    assert np.exp(plans[1].logps[beside, 3]) == 0
    # Regret tells them apart.
    regrets = [
        seen_by(weights, world, segments, model="regret") for weights in (world.weights, shifted)
    ]
    assert np.abs(regrets[1] - regrets[0]).max() > 1


def test_segments_that_end_early_make_the_constant_visible(world):
    states, actions, mask = every_segment(world)
    segments = as_segments(world, states, actions, mask)
    shifted = world.weights + 2 * jnp.array(CONSTANT)
    gaps = seen_by(shifted, world, segments, model="partial return") - utilities(
        world.weights, world, segments, model="partial return"
    )
    np.testing.assert_allclose(gaps, 2 * mask.sum(-1), rtol=1e-12)


def test_potential_shaping_is_invisible_to_regret_but_not_to_partial_return(world):
    states, actions, mask = every_segment(world)
    potential = jnp.where(jnp.arange(9) == 8, 0.0, jax.random.normal(jax.random.key(2), (9,)))
    after = discounted_mdp.expected_values(world.mdp.transitions, potential)
    gamma = world.mdp.gamma
    shaped = jnp.where(
        jnp.arange(9)[:, None] == 8, 0.0, world.mdp.rewards + gamma * after - potential[:, None]
    )
    told = []
    for rewards in (world.mdp.rewards, shaped):
        mdp = under_weights(world, world.weights)
        found = optimal(type(mdp)(mdp.transitions, rewards, mdp.initial, mdp.gamma))
        values, q = found.values[states[:, :-1]], found.action_values[states[:, :-1], actions]
        regrets = segment_regrets(values, q, mask, gamma=gamma)
        told.append((regrets, partial_returns(rewards[states[:, :-1], actions], mask, gamma=gamma)))
    np.testing.assert_allclose(told[0][0], told[1][0], atol=1e-9)
    assert np.abs(told[0][1] - told[1][1]).max() > 0.5


@pytest.mark.long
def test_regret_of_the_learner_is_the_sum_of_advantages_and_zero_for_the_best(world):
    states, actions, mask = every_segment(world)
    found = optimal(world.mdp)
    values, q = found.values[states[:, :-1]], found.action_values[states[:, :-1], actions]
    expected = -segment_regrets(values, q, mask, gamma=world.mdp.gamma)
    seen = seen_by(world.weights, world, as_segments(world, states, actions, mask), model="regret")
    np.testing.assert_allclose(seen, expected, atol=1e-9)
    assert seen.max() == pytest.approx(0, abs=1e-9)


@pytest.mark.long
def test_utilities_are_linear_in_the_weights_for_a_fixed_plan_also_in_a_lottery():
    lottery = lottery_board(jax.random.key(0), win_weight=170.0, side=3)
    drawn = jax.jit(sample_segments, static_argnames=("pairs", "length"))(
        jax.random.key(1), lottery, pairs=40, length=3
    )
    plan = optimal(lottery.mdp).logps
    seen = advantage_features(lottery, drawn, plan) @ lottery.weights
    expected = seen_by(lottery.weights, lottery, drawn, model="regret")
    np.testing.assert_allclose(seen, expected, atol=1e-9)
    assert expected.min() < -1
    returns = seen_by(lottery.weights, lottery, drawn, model="partial return")
    np.testing.assert_allclose(summed_features(drawn) @ lottery.weights, returns, rtol=1e-12)


def test_a_prior_is_kept_without_pairs_and_given_up_with_many(world):
    states, actions, mask = every_segment(world)
    whole = as_segments(world, states, actions, mask)
    segments = jax.tree.map(lambda x: x[::6][:80].reshape(40, 2, *x.shape[1:]), whole)
    prior = Prior(jnp.arange(6.0), jnp.ones(6))
    fit = jax.jit(fit_with_prior)
    prefs = jnp.tile(jnp.array([1.0, 0.0]), 20)
    none = jax.tree.map(lambda x: x[:0], segments)
    kept = fit(none, prefs[:0], prior, jnp.array(1.0))
    np.testing.assert_allclose(kept, prior.mean, atol=1e-9)
    moved = fit(segments, prefs, prior, jnp.array(0.1))
    assert jnp.abs(moved - prior.mean).max() > 0.1
    for make in PRIORS.values():
        assert make().mean.shape == make().spread.shape == (6,)


@pytest.mark.long
def test_labels_are_drawn_or_sure_with_half_at_a_tie():
    values = jnp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0 + 1e-9]])
    np.testing.assert_array_equal(draw_prefs(jax.random.key(0), values, noisy=False), [1, 0, 0.5])
    many = jnp.tile(jnp.array([[0.0, 1.0]]), (4000, 1))
    share = draw_prefs(jax.random.key(0), many, noisy=True).mean()
    assert share == pytest.approx(1 / (1 + np.e), abs=0.03)


@pytest.mark.long
def test_regret_learns_to_end_the_episode(world):
    states, actions, mask = every_segment(world)
    drawn = jax.random.randint(jax.random.key(3), (300, 2), 0, len(states))
    segments = as_segments(world, states, actions, mask)
    pairs = jax.tree.map(lambda x: x[drawn], segments)
    seen = seen_by(world.weights, world, segments, model="regret")[drawn]
    prefs = draw_prefs(jax.random.key(4), seen, noisy=False)

    fit = jax.jit(fit_weights, static_argnames=("model", "starts", "steps", "rate"))
    weights, loss = fit(world, pairs, prefs, model="regret", starts=1, steps=60, rate=0.3)
    assert loss < 0.3
    planned = optimal(under_weights(world, weights))
    lost = discounted_mdp.regret(world.mdp, planned.logps)
    assert lost < 1e-6


@pytest.mark.long
def test_the_best_of_several_starts_is_followed_to_the_end(world):
    states, actions, mask = every_segment(world)
    drawn = jax.random.randint(jax.random.key(5), (30, 2), 0, len(states))
    segments = as_segments(world, states, actions, mask)
    pairs = jax.tree.map(lambda x: x[drawn], segments)
    seen = seen_by(world.weights, world, segments, model="regret")[drawn]
    prefs = draw_prefs(jax.random.key(6), seen, noisy=True)
    fit = jax.jit(fit_weights, static_argnames=("model", "starts", "steps", "rate"))
    losses = [
        fit(world, pairs, prefs, model="regret", starts=n, steps=steps, rate=0.3)[1]
        for n, steps in ((1, 0), (3, 0), (3, 20))
    ]
    assert losses[2] <= losses[1] <= losses[0]


def scores(regret=1.0, partial_return=0.5):
    """Whoever learns from whatever labels."""
    found = {}
    for model, score in zip(MODELS, (regret, partial_return), strict=True):
        found[model] = np.full((100, 2, 4), score)
        found[f"{model}, converse"] = np.full((100, 2), score)
    return found


def test_the_claims_are_those_of_the_paper_and_can_fail():
    config = regret_config.default()
    held = regret_claims.board_claims(config, scores())
    assert {(claim.statement, claim.op, claim.threshold) for claim in held} == ASKED
    assert all(claim.holds for claim in held)
    swapped = regret_claims.board_claims(config, scores(regret=0.5, partial_return=1.0))
    assert not any(claim.holds for claim in swapped)


def both_ways() -> dict:
    """The model that labels is the one that learns."""
    made = scores()
    made[f"{MODELS[0]}, converse"][:] = 0.5
    made[f"{MODELS[1]}, converse"][:] = 1.0
    return made


def test_rivals_with_a_prior_and_the_converse_can_fail():
    config = regret_config.default()
    priors = {name: np.full((100, 2, 4, 3), 0.5) for name in PRIORS}
    held = regret_claims.rival_claims(config, both_ways(), priors)
    assert len(held) == 16
    assert all(claim.holds for claim in held)
    assert regret_claims.converse_claim(config, both_ways()).holds
    assert not regret_claims.converse_claim(config, scores()).holds
    # One strength that is enough counts.
    for each in priors.values():
        each[..., 1] = 1.0
    level = regret_claims.rival_claims(config, both_ways(), priors)
    assert not any(claim.holds for claim in level)


def test_lottery_claims_can_fail():
    config = regret_config.default()
    made = {name: values.reshape(100, 2, -1)[..., 0] for name, values in scores().items()}
    held = regret_claims.lottery_claims(config, made)
    assert [(claim.op, claim.threshold) for claim in held] == [(">=", 0.95)] * 2 + [("<=", 0.85)]
    assert all(claim.holds for claim in held)
    easy = {name: np.ones_like(values) for name, values in made.items()}
    assert not any(claim.holds for claim in regret_claims.lottery_claims(config, easy))


@pytest.mark.long
def test_the_whole_of_it_at_a_small_size(tmp_path):
    config = regret_config.quick()
    with open_run(tmp_path, slug="regret_preference", config=config) as job:
        outcome = regret_run.run(config, job)
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert page.count("https://") == page.count("https://arxiv.org/abs/")
    assert {path.stem for path in (tmp_path / "data").glob("*.npz")} == {
        "boards",
        "lotteries",
        "delivery",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_boards": 0}, r"num_boards must be in \[1, inf\)"),
        ({"side": 2}, r"side must be in \[3, inf\)"),
        ({"sizes": (100, 30)}, "sizes must ascend"),
        ({"rate": 0.0}, r"rate must be in \(0, 1\]"),
        ({"starts": 0}, r"starts must be in \[1, inf\)"),
        ({"strengths": (0.0,)}, r"strengths must be in \(0, inf\)"),
        ({"lottery_boards": 0}, r"lottery_boards must be in \[1, inf\)"),
        ({"win_weights": (float("inf"),)}, r"win_weights must be in \(-inf, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        regret_config.Config(**change)
