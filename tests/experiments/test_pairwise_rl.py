"""The pairwise_rl experiment in a minute size, its worlds by hand, and claims that must fail."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pairwise_rl import claims, config, run
from experiments.pairwise_rl.config import Config, Judges, Strings
from experiments.pairwise_rl.judges import TRAINED
from experiments.pairwise_rl.optimise import at_budget, facts
from experiments.pairwise_rl.strings import MODELS, batches, draw_pairs, row_tokens
from experiments.pairwise_rl.world import (
    SOURCES,
    World,
    all_rewards,
    draw_world,
    share_of_prompts,
    spread_within,
    true_wins,
)
from rlhf_jax.training import open_run

TINY = Config(
    num_seeds=2,
    prompts=4,
    answers=3,
    iterations=30,
    batch=16,
    rate=0.2,
    betas=3,
    budget=0.2,
    judges=Judges(pairs=400, steps=20),
    strings=Strings(
        num_seeds=2,
        prompts=2,
        symbols=2,
        length=2,
        sizes=(64,),
        steps=3,
        width=8,
        layers=1,
        test_pairs=50,
    ),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a minute size: its folder and its outcome."""
    out = tmp_path_factory.mktemp("pairwise_rl")
    with open_run(out, slug="pairwise_rl", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_every_figure_and_number_is_there(finished):
    out, outcome = finished
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 3
    assert [row[0] for row in outcome.table.rows] == list(SOURCES)
    assert len(outcome.claims) == 14
    assert outcome.numbers["judges"].keys() == set(TRAINED)
    assert outcome.numbers["judges"]["both orders"]["bias"] == 0.0
    assert outcome.numbers["errors of P"]["mean margin"] < 1e-5
    assert outcome.numbers["strings"]["64 pairs"].keys() == set(MODELS)


@pytest.mark.slow
def test_the_quick_size_orders_the_rewards(tmp_path):
    with open_run(tmp_path, slug="pairwise_rl", config=config.quick()) as job:
        wins = run.run(config.quick(), job).numbers["wins"]["none"]
    assert wins["two orders"] > wins["shifted score"] > wins["shifted and scaled score"]


def by_hand() -> World:
    """One prompt, two answers with scores 2 and 0; the second is the anchor."""
    one = jnp.ones(1)
    return World(
        scores=jnp.array([[2.0, 0.0]]),
        ref_logits=jnp.zeros((1, 2)),
        anchors=jnp.array([1]),
        bias=0.5 * one,
        shift=10.0 * one,
        scale=3.0 * one,
    )


def test_rewards_by_hand():
    found = dict(zip(SOURCES, np.asarray(all_rewards(by_hand()))[:, 0], strict=True))
    sigmoid = {x: 1 / (1 + np.exp(-x)) for x in (2.0, 2.5, 0.5)}
    np.testing.assert_allclose(found["two orders"], [sigmoid[2.0] - 0.5, 0.0], rtol=1e-6)
    np.testing.assert_allclose(
        found["one order"], [sigmoid[2.5] - 0.5, sigmoid[0.5] - 0.5], rtol=1e-6
    )
    np.testing.assert_allclose(found["two orders, margin"], [2.0, 0.0])
    np.testing.assert_allclose(found["two orders, verdict alone"], [0.5, 0.0])
    np.testing.assert_allclose(found["shifted score"], [12.0, 10.0])
    np.testing.assert_allclose(found["shifted and scaled score"], [16.0, 10.0])
    np.testing.assert_allclose(true_wins(by_hand()), [[sigmoid[2.0], 0.5]], rtol=1e-6)
    # scores 2 and 0 with equal probability: standard deviation 1, no second prompt
    np.testing.assert_allclose(spread_within(by_hand().scores, jnp.zeros((1, 2))), 1.0)
    np.testing.assert_allclose(share_of_prompts(by_hand().scores, jnp.zeros((1, 2))), 0.0)
    # means 1 and 3 of two prompts: variance 1 between them, 1 within
    rewards = jnp.array([[2.0, 0.0], [4.0, 2.0]])
    np.testing.assert_allclose(share_of_prompts(rewards, jnp.zeros((2, 2))), 0.5)


def test_a_shift_per_prompt_changes_pointwise_rewards_alone():
    world = draw_world(jax.random.key(0), TINY)
    moved = world._replace(scores=world.scores + 8.0 * jnp.arange(4.0)[:, None])
    before, after = np.asarray(all_rewards(world)), np.asarray(all_rewards(moved))
    for i, name in enumerate(SOURCES):
        same = np.allclose(before[i], after[i], atol=1e-5)
        assert same == (i < 4), name


def test_policies_are_compared_at_the_budget():
    kl = np.tile([2.0, 1.0, 0.0], (2, len(SOURCES), 1))
    found = {"kl, none": kl, "wins, none": np.tile([0.9, 0.7, 0.4], (2, len(SOURCES), 1))}
    assert at_budget(replace(TINY, budget=1.5), found, "none")["one order"].tolist() == [0.8, 0.8]
    assert np.isnan(at_budget(replace(TINY, budget=3.0), found, "none")["one order"]).all()


def test_a_budget_out_of_reach_has_no_win_rate():
    """By hand: the verdict alone ends on answer 1, KL log 2 from the uniform reference."""
    worlds = jax.tree.map(lambda x: x[None], by_hand())
    size = replace(TINY, answers=2)
    near, far = (facts(replace(size, budget=kl), worlds) for kl in (0.5, 0.8))
    assert near["within reach"].all()
    assert not far["within reach"].any()
    assert all(np.isfinite(x).all() for x in far.values())  # a stage saves no NaN
    found = {"exact wins": np.full((2, 7), 0.7), "prompt share": np.zeros((2, 7))}
    found["within reach"] = np.array([[True] * 6 + [False]] * 2)
    for name in ("none", "others"):
        found[f"kl, {name}"] = np.tile([0.1, 0.3], (2, 7, 1))
        found[f"wins, {name}"] = np.ones((2, 7, 2))
    found["kl, none"][1, 0] = [0.1, 0.15]  # one world stays below the budget of 0.2
    found["reference wins"] = np.zeros(2)
    rows = run.budget_table(TINY, found).rows
    assert rows[0][1:] == (None, "1.0000", "0.7000", "0.00")
    assert rows[-1][1:] == ("1.0000", "1.0000", None, "0.00")


def bandit_of(wins: dict[str, float]) -> dict[str, np.ndarray]:
    """Curves that are flat at these win rates, 0.7 for other sources, on both baselines."""
    heights = np.array([wins.get(name, 0.7) for name in SOURCES])
    noise = 1e-4 * np.arange(5)[:, None, None]
    kl = np.tile([0.5, 1.5], (5, len(SOURCES), 1))
    flat = np.tile(heights[:, None], (5, 1, 2)) + noise
    found = {"exact wins": flat[..., 0], "within reach": np.ones(flat.shape[:2], bool)}
    for name in ("none", "others"):
        found |= {f"kl, {name}": kl, f"wins, {name}": flat}
    return found


def verdicts(wins: dict[str, float]) -> list[str]:
    given = config.default(), bandit_of(wins)
    return [x.verdict for x in (*claims.budget_claims(*given), *claims.baseline_claims(*given))]


def test_claims_hold_where_scores_without_calibration_lose():
    wins = {"shifted score": 0.685, "shifted and scaled score": 0.67}
    assert verdicts(wins)[:5] == ["holds"] * 5
    # here the exact optima are equal, and a baseline did not help the shifted score
    assert verdicts(wins)[5:7] == ["fails", "fails"]
    wins = {"two orders": 0.71, "shifted and scaled score": 0.67}
    assert verdicts(wins)[7:] == ["holds", "holds"]


def test_claims_fail_where_every_reward_is_as_good():
    assert verdicts({})[:4] == ["fails"] * 4
    assert verdicts({})[7] == "fails"
    assert verdicts({"two orders, margin": 0.71})[8] == "fails"
    assert verdicts({"two orders": 0.71})[4:6] == ["fails", "holds"]


@pytest.mark.long
def test_strings_agree_with_the_gold_one_as_often_as_their_score_says():
    sizes, gold = Strings(prompts=2, symbols=3, length=4), jnp.array([[0, 1, 2, 0], [2, 2, 1, 0]])
    pairs = draw_pairs(jax.random.key(0), gold, sizes, 200, noise=False)
    assert bool(jnp.all(pairs.chosen >= pairs.rejected))
    first = 4 + sizes.prompts
    for side, scores in (
        (pairs.batch.chosen, pairs.chosen),
        (pairs.batch.rejected, pairs.rejected),
    ):
        prompts = np.asarray(side.inputs.ids)[:, 0] - 4
        places = np.asarray(side.actions) - first == np.asarray(gold)[prompts]
        np.testing.assert_array_equal(places.sum(-1), scores)
    noisy = draw_pairs(jax.random.key(0), gold, sizes, 2_000, noise=True)
    assert 0.05 < np.mean(noisy.chosen < noisy.rejected) < 0.3
    assert row_tokens(sizes) == 20  # two rows of 1 + 4 + 1 + 4


def test_every_pass_has_every_pair_once():
    found = np.asarray(batches(jax.random.key(0), 6, 2, 7))
    assert found.shape == (7, 2)
    for start in (0, 3):
        assert sorted(found[start : start + 3].ravel()) == list(range(6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 6}, "batch must be a multiple of group = 4, got 6"),
        ({"betas": 1}, r"betas must be in \[2, inf\)"),
        ({"budget": 0.0}, r"budget must be in \(0, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Config(**change)


def test_sizes_of_strings_are_checked():
    with pytest.raises(ValueError, match=r"sizes must be at least batch = 64, got \(10,\)"):
        Strings(sizes=(10,))
