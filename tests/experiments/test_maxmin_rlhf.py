"""The maxmin_rlhf experiment at a toy size, its world by hand, and claims that can fail."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.maxmin_rlhf import claims, config, methods, run
from experiments.maxmin_rlhf.world import (
    World,
    ask,
    draw_world,
    group_recall,
    pooled_margins,
    win_rates,
)
from rlhf_jax.training import open_run

TOY = config.Config(
    num_seeds=2,
    contexts=6,
    answers=4,
    users=22,
    comparisons=10,
    ratios=(1.0, 10.0),
    rounds=3,
    restarts=2,
    dual_steps=1000,
    policy_steps=200,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the toy size."""
    out = tmp_path_factory.mktemp("maxmin_rlhf")
    with open_run(out, slug="maxmin_rlhf", config=TOY) as job:
        return out, run.run(TOY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == len(claims.all_claims(TOY, good()))
    numbers = [*(float(claim.value) for claim in outcome.claims)]
    assert np.isfinite([*numbers, *jax.tree.leaves(dict(outcome.numbers))]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 4
    kept = {path.stem: dict(np.load(path)) for path in (out / "data").glob("*.npz")}
    assert set(kept) == {"fits", "groups", "moving", "pooled"}
    served = kept["groups"]
    assert served["win rates"].shape == (2, 2, len(methods.POLICIES), 2)
    assert (served["gaps"][..., -1] <= 1e-6).all()
    one, maxmin = (claims.rates(served, name)[-1] for name in ("one reward", "MaxMin"))
    assert (maxmin.min(-1) > one.min(-1)).all()
    # The same worlds at both ratios: only the users differ.
    true = claims.rates(served, "MaxMin, true rewards")
    np.testing.assert_allclose(true[0], true[1], atol=1e-6)
    moving = kept["moving"]
    assert (moving["exponentiated weights"][:, -1] < moving["exponentiated weights"][:, 0]).all()


def good():
    """Arrays in which everything holds."""
    rng, count = np.random.default_rng(0), len(methods.POLICIES)
    shape = (2, 8)

    def noisy(value, *more):
        return value + 0.001 * rng.normal(size=(*shape, *more))

    rates = noisy(0.64, count, 2)
    one, least = (methods.POLICIES.index(x) for x in ("one reward", "worst of each answer"))
    rates[1, :, one] = [0.84, 0.32]
    rates[:, :, least] -= 0.02
    gaps = np.stack([np.full(shape, 0.3), np.full(shape, 1e-12)], -1)
    served = {"win rates": rates, "gaps": gaps, "weight": noisy(0.5)}
    moving = {
        "worst group": 0.05 + 0.001 * rng.normal(size=(8, 3)),
        "exponentiated weights": 1e-4 + 1e-6 * rng.normal(size=(8, 3)),
        "the majority's reward alone": np.ones((8, 3)),
    }
    return {"fits": {"recall": noisy(0.99, 2, 2)}, "groups": served, "moving": moving}


def verdicts(stages):
    return [claim.verdict for claim in claims.all_claims(TOY, stages)]


def test_every_claim_holds_and_each_can_fail():
    assert verdicts(good()) == ["holds"] * 8
    for change, places in (
        (lambda s: s["groups"]["win rates"][1, :, 0].fill(0.84), {0, 1, 2, 3}),
        (lambda s: s["groups"]["win rates"][1, :, 1].fill(0.5), {1, 2, 3}),
        (lambda s: s["fits"]["recall"].fill(0.5), {4, 5}),
        (lambda s: s["groups"]["gaps"].fill(0.1), {6}),
        (lambda s: s["moving"].update({"worst group": np.zeros((8, 3))}), {7}),
    ):
        stages = good()
        change(stages)
        failed = {i for i, verdict in enumerate(verdicts(stages)) if verdict != "holds"}
        assert failed
        assert failed <= places


def test_the_world_is_two_tastes_with_a_shared_part():
    world = draw_world(TOY, jax.random.key(0))
    both, apart = (world.weights[0] + x * world.weights[1] for x in (1.0, -1.0))
    np.testing.assert_allclose(jnp.linalg.norm(both), 2 * 2.2 * 0.45, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(apart), 2 * 2.2 * 0.9, rtol=1e-5)
    np.testing.assert_allclose(both @ apart, 0.0, atol=1e-5)


def test_users_answer_by_their_own_reward():
    sure = replace(TOY, scale=100.0)
    world = draw_world(sure, jax.random.key(0))
    groups = jnp.arange(22) >= 11
    asked = ask(sure, world, jax.random.key(1), groups.astype(int))
    for comparisons in (asked.fitted, asked.held):
        margins = jnp.einsum("hnd,hd->hn", comparisons.differences, world.weights[asked.groups])
        assert float(jnp.mean(margins > 0)) > 0.98
        assert comparisons.mask.shape == (22, 10)
    assert not np.allclose(asked.fitted.differences, asked.held.differences)
    # Never an answer with itself.
    assert (jnp.abs(asked.fitted.differences).max(-1) > 0).all()


def test_win_rates_by_hand():
    """Answers of reward log 3 and 0 to the first group: 1/2 and 3/4 against a uniform reference."""
    world = World(jnp.array([[[np.log(3.0)], [0.0]]]), jnp.array([[1.0], [-1.0]]))
    flat = jnp.log(jnp.array([[0.5, 0.5]]))
    np.testing.assert_allclose(win_rates(flat, world, flat), [0.5, 0.5], rtol=1e-6)
    first = jnp.log(jnp.array([[1.0, 1e-12]]))
    np.testing.assert_allclose(win_rates(first, world, flat), [0.625, 0.375], rtol=1e-5)


def test_groups_have_no_names():
    groups = jnp.array([0, 0, 0, 1])
    for chosen, swapped in ((jnp.array([0, 0, 1, 1]), False), (jnp.array([1, 1, 0, 0]), True)):
        recall, swap = group_recall(chosen, groups)
        np.testing.assert_allclose(recall, [2 / 3, 1.0], rtol=1e-6)
        assert bool(swap) == swapped
    recall, _ = group_recall(jnp.zeros(4, int), groups)
    np.testing.assert_allclose(recall, [1.0, 0.0])


def test_one_reward_is_as_far_off_as_the_bound_says():
    """0.9 of the majority, margins 1.5 and -2: 3.09 >= 2.51 for the minority, 0.41 >= 0.28."""
    pooled = float(pooled_margins(jnp.array([0.9, 0.1]), jnp.array(methods.MARGINS)))
    np.testing.assert_allclose(abs(pooled - methods.MARGINS[1]), 3.0866, atol=1e-3)
    np.testing.assert_allclose(abs(pooled - methods.MARGINS[0]), 0.4134, atol=1e-3)
    found = methods.pooled_errors()
    assert (found["error"] >= found["bound"]).all()
    place = np.argmin(np.abs(found["share"] - 0.1))
    np.testing.assert_allclose(found["bound"][place], 2.514, atol=1e-3)
    np.testing.assert_allclose(found["error"][place], 3.0866, atol=1e-3)


def test_learned_rewards_have_a_zero():
    world = draw_world(TOY, jax.random.key(0))
    found = methods.learned(world, world.weights)
    np.testing.assert_allclose(found.mean(1), 0.0, atol=1e-5)
    np.testing.assert_allclose(jnp.diff(found, axis=1), jnp.diff(world.rewards(), axis=1), 1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratios": (1.0,)}, "ratios must have a majority"),
        ({"ratios": (2.0, 6.0)}, "ratios must rise from 1"),
        ({"ratios": (1.0, 100.0)}, "ratios must leave a minority of two users"),
        ({"beta": 0.0}, r"beta must be in \(0, 100\]"),
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
