"""The p3o experiment in a minute size, its pieces by hand, and claims that must fail."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.p3o import claims, config, run
from experiments.p3o.bandit import draw_world, gradient_study, measured
from experiments.p3o.config import Config, Strings
from experiments.p3o.learners import LEARNERS, batch_centred, batch_whitened
from experiments.p3o.strings import any_loss, draw_pairs, neighbours
from rlhf_jax.losses.pairwise_gradient import p3o_v2_loss
from rlhf_jax.training import open_run

TINY = Config(
    num_seeds=2,
    prompts=4,
    answers=3,
    iterations=20,
    shifts=(1.0,),
    betas=(0.2,),
    groups=(4,),
    bandits=2,
    strings=Strings(num_seeds=2, symbols=3, length=2, iterations=10, batch=2, width=8, layers=1),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a minute size: its folder and its outcome."""
    out = tmp_path_factory.mktemp("p3o")
    with open_run(out, slug="p3o", config=TINY) as job:
        return out, run.run(TINY, job)


@pytest.mark.long
def test_every_figure_and_number_is_there(finished):
    out, outcome = finished
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 4
    assert len(outcome.claims) == 20
    assert [row[0] for row in outcome.table.rows] == list(LEARNERS)
    assert outcome.table.headers == ("method", "s = 0", "s = 1", "s = 5")


@pytest.mark.long
def test_identities_hold_at_any_size(finished):
    _, outcome = finished
    exact = [claim for claim in outcome.claims if claim.kind == "theorem"]
    assert len(exact) == 5
    assert all(claim.holds for claim in exact)


def test_gradients_are_exact_and_the_clip_is_not():
    found = gradient_study(TINY)
    assert max(found[name].max() for name in ("pairwise gradient", "V1", "V2")) <= 1e-12
    assert found["V1, clipped"].min() > 1e-3


def bandit_arrays(shifted):
    """Objectives 1.3 of all methods without a shift, and these with it; KL 0."""
    found = {"optimum": np.full((2, 5), 1.35)}
    for name in LEARNERS:
        reward = np.full((2, 5, 3), 1.3) + 0.01 * np.arange(2)[:, None, None]
        reward[:, 1] = shifted.get(name, 1.3) + 0.01 * np.arange(2)[:, None]
        found[f"{name}/reward"], found[f"{name}/kl"] = reward, np.zeros_like(reward)
        found[f"{name}/shifted"] = np.full(2, 1e-16 if name[0] == "P" and "3O" in name else 0.5)
    return found


def test_claims_about_levels_fail_where_the_shift_does_nothing_or_hurts_p3o():
    shift = {"PPO, batch mean": 0.5, "PPO, whitened": 0.9}
    wide = replace(TINY, num_seeds=2)
    good = claims.level_claims(wide, bandit_arrays(shift))
    assert [claim.verdict for claim in good[::2]] == ["holds"] * 4
    assert [claim.holds for claim in good[1::2]] == [True] * 4
    flat = claims.level_claims(wide, bandit_arrays({}))
    assert [claim.verdict for claim in flat[:4]] == ["fails"] * 4
    hurt = claims.level_claims(wide, bandit_arrays(shift | {"P3O-V1": 0.9, "P3O-V2": 0.9}))
    assert [claim.verdict for claim in hurt[4:]] == ["fails"] * 4


def test_claims_about_shares_of_the_optimum():
    shift = {"PPO, batch mean": 0.5, "PPO, whitened": 0.9}
    good = claims.share_claims(TINY, bandit_arrays(shift))
    assert [claim.verdict for claim in good] == ["holds"] * 4
    hurt = claims.share_claims(TINY, bandit_arrays({"P3O-V1": 0.9, "P3O-V2": 0.9}))
    assert [claim.verdict for claim in hurt] == ["fails"] * 4


def test_what_the_shift_costs_a_transformer():
    found = {}
    for name, cost in (("P3O-V2", 0.0), ("RLOO", 0.0), ("PPO, whitened", 0.5)):
        reward = np.ones((3, 2, 10)) + 0.1 * np.arange(3)[:, None, None]
        reward[:, 1] -= cost + (0.01 * np.arange(3)[:, None] if cost else 0.0)
        found |= {f"{name}/reward": reward, f"{name}/kl": np.zeros_like(reward)}
    assert claims.string_claim(TINY, found).verdict == "holds"
    found["PPO, whitened/reward"] = found["P3O-V2/reward"]
    assert claims.string_claim(TINY, found).verdict == "fails"


def test_a_change_by_the_shift_fails():
    arrays = bandit_arrays({})
    assert [claim.verdict for claim in claims.shift_claims(TINY, arrays)] == ["holds"] * 2
    arrays["P3O-V1/shifted"] = np.array([0.0, 1e-6])
    assert claims.shift_claims(TINY, arrays)[0].verdict == "fails"


def test_a_world_has_the_same_bandit_and_as_many_answers_for_every_group():
    two, four = (draw_world(TINY, size, jax.random.key(3)) for size in (2, 4))
    np.testing.assert_array_equal(two.rewards, four.rewards)
    np.testing.assert_array_equal(two.shift, four.shift)
    assert two.noise.shape[1:3] == (4, 2)
    assert four.noise.shape[1:3] == (2, 4)
    assert sorted(np.asarray(two.prompts[0]).tolist()) == [0, 1, 2, 3]


def test_measures_by_hand():
    world = draw_world(TINY, 2, jax.random.key(0))._replace(
        rewards=jnp.array([[1.0, 3.0], [0.0, 4.0]]), ref_logits=jnp.zeros((2, 2))
    )
    found = measured(world, jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75]])))
    # (2 + 3) / 2; KL of the second prompt log 2 - H(1/4) = 0.1308, of the first 0.
    np.testing.assert_allclose(found["reward"], 2.5, rtol=1e-6)
    np.testing.assert_allclose(found["kl"], 0.5 * 0.1308120, rtol=1e-5)


def test_baselines_by_hand():
    paid = jnp.array([[1.0, 2.0], [4.0, 5.0]])
    np.testing.assert_allclose(batch_centred(paid), [[-2, -1], [1, 2]], atol=1e-6)
    # Variance (4 + 1 + 1 + 4) / 3.
    white = np.array([[-2, -1], [1, 2]]) / np.sqrt(10 / 3)
    np.testing.assert_allclose(batch_whitened(paid), white, rtol=1e-5)


def test_neighbours_are_counted_in_order():
    strings = jnp.array([[0, 1, 0, 1, 1], [1, 0, 0, 0, 1]])
    np.testing.assert_array_equal(neighbours(strings, jnp.array([0, 1])), [2, 1])
    pairs = np.asarray(draw_pairs(jax.random.key(0), Strings()))
    assert (pairs[:, 0] != pairs[:, 1]).all()


def test_one_program_has_the_loss_of_each_kind():
    rows = jax.random.normal(jax.random.key(1), (4, 2, 2))
    kinds = jnp.array([0, 2])
    found = any_loss(*rows, kinds, clip_eps=0.2)
    pairs = p3o_v2_loss(*rows[:3], clip_eps=0.2)
    np.testing.assert_allclose(found[0], pairs[0])
    ratios = np.exp(np.asarray(rows[0, 1] - rows[1, 1]))
    kept = np.asarray(rows[3, 1])
    by_hand = -np.minimum(kept * ratios, kept * np.clip(ratios, 0.8, 1.2)).mean()
    np.testing.assert_allclose(found[1], by_hand, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_seeds": 1}, r"num_seeds must be in \[2, inf\)"),
        ({"groups": (3,)}, "groups must be even numbers"),
        ({"groups": (1,)}, r"groups must be in \[2, inf\)"),
        ({"beta": 0.0}, r"beta must be in \(0, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


def test_an_odd_width_is_named():
    with pytest.raises(ValueError, match="width must be even"):
        Strings(width=7)
