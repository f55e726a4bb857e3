"""The rm_ensembles experiment: its worlds, its members, its curves, and claims that can fail."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.rm_ensembles import config, run
from experiments.rm_ensembles.claims import BEST, all_claims, lost, relative_drop
from experiments.rm_ensembles.members import combinations, draw_orders, fit_linear
from experiments.rm_ensembles.selection import chosen, shared_errors, sizes
from experiments.rm_ensembles.worlds import draw_answers, draw_pairs, draw_world, gold_score
from rlhf_jax.training import open_run

SMALL = replace(config.quick(), prompts=2, candidates=16, batch=8, pairs=20, epochs=2)
NS = jnp.asarray(sizes(SMALL))


def test_sizes_are_two_to_an_octave_and_all():
    np.testing.assert_array_equal(sizes(SMALL), [1, 2, 3, 4, 6, 8, 11, 16])


def test_gold_scores_by_hand():
    world = draw_world(jax.random.key(0), cliff=False)
    np.testing.assert_array_equal(world.direction[6:], 0.0)
    assert jnp.linalg.norm(world.direction) == pytest.approx(1.0, rel=1e-6)
    # Off the core only the norm counts: -0.6 times 5.
    x = jnp.zeros(12).at[6].set(3.0).at[9].set(4.0)
    assert gold_score(world, x) == pytest.approx(-3.0, rel=1e-5)
    cliff = draw_world(jax.random.key(0), cliff=True)
    along = 8.0 * cliff.direction  # 8 - 1.5 (8 - 6)
    assert gold_score(cliff, along) == pytest.approx(5.0, rel=1e-5)
    assert gold_score(cliff, along / 2) == pytest.approx(4.0, rel=1e-5)


def test_rare_answers_are_far_and_others_near():
    whole = replace(SMALL, far_share=0.1)
    x = draw_answers(jax.random.key(0), whole, (4000,), cliff=False)
    off = np.linalg.norm(x[:, 6:], axis=1)
    assert np.mean(off > 1.0) == pytest.approx(0.1, abs=0.02)
    assert np.std(x[:, :6]) == pytest.approx(1.0, abs=0.02)
    assert off[off < 1.0].max() < 0.6


def test_labels_are_those_of_gold_but_for_the_noise():
    many = replace(SMALL, pairs=4000)
    world = draw_world(jax.random.key(0), cliff=False)
    for noise in (0.0, 0.25):
        scores = gold_score(world, draw_pairs(jax.random.key(1), many, world, noise=noise))
        wrong = jnp.mean(scores[:, 0] < scores[:, 1])
        assert wrong == pytest.approx(noise, abs=0.03 * (noise > 0))


def test_each_pass_is_a_permutation_of_its_own():
    orders = draw_orders(jax.random.key(0), SMALL, members=2)
    assert orders.shape == (2, 4, 8)  # 2 passes of 2 batches; 4 of 20 pairs are left over
    passes = np.asarray(orders).reshape(4, 16)
    assert all(len(set(each)) == 16 for each in passes)
    assert len({tuple(each) for each in passes}) == 4


def test_members_that_agree_are_chosen_by_alike():
    """The mean, WCO and UWO of copies of one member choose what it does."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 2)
        proxy, gold = (jax.random.normal(key, (2, 16)) for key in keys)
        proxies = combinations(SMALL, jnp.tile(proxy, (5, 1, 1)))
        found = chosen(SMALL, proxies, NS, gold, jnp.zeros_like(gold))
        for name in ("mean", "WCO", BEST):
            for curve, rounding in (("gold", 1e-12), ("kl gold", 1e-9), ("kl", 1e-5)):
                ours, single = (found[curve][each] for each in (name, "single"))
                np.testing.assert_allclose(ours, single, rtol=rounding, atol=rounding)


def test_linear_members_of_enough_pairs_err_alike():
    whole = replace(SMALL, pairs=1500, batch=32, epochs=5, far_share=1.0)
    keys = jax.random.split(jax.random.key(0), 4)
    world = draw_world(keys[0], cliff=True)
    near = replace(whole, far_share=config.default().far_share)
    score = fit_linear(whole, keys[1], draw_pairs(keys[2], near, world, noise=0.25))
    x = draw_answers(keys[3], whole, (500,), cliff=True)
    assert shared_errors(score(x)["separate"], gold_score(world, x)) > 0.8


def test_a_curve_begins_at_the_mean_and_ends_at_the_best():
    rng = np.random.default_rng(0)
    proxy, gold = (jnp.asarray(rng.standard_normal((2, 16)), jnp.float32) for _ in range(2))
    proxies = {"one": proxy[None], "two": jnp.stack([proxy, -proxy])}
    found = chosen(SMALL, proxies, NS, gold, gold**2)
    best = np.take_along_axis(np.asarray(gold), np.asarray(proxy).argmax(1)[:, None], 1).mean()
    worst = np.take_along_axis(np.asarray(gold), np.asarray(proxy).argmin(1)[:, None], 1).mean()
    np.testing.assert_allclose(found["gold"]["one"][0], gold.mean(), rtol=1e-4)
    np.testing.assert_allclose(found["gold"]["one"][-1], best, rtol=1e-4)
    np.testing.assert_allclose(found["gold"]["two"][-1], (best + worst) / 2, rtol=1e-4)
    np.testing.assert_allclose(found["proxy"]["one"][-1], proxy.max(1).mean(), rtol=1e-4)
    # A small beta takes the best too, with a KL of log 16 at most.
    assert found["kl"]["one"][-1] <= np.log(16) + 1e-5
    assert np.all(np.diff(found["kl"]["one"]) > 0)


def test_drops_of_curves():
    gold = np.array([[0.0, 3.0, 1.0], [0.0, 1.0, 1.0]])
    assert relative_drop(gold) == pytest.approx(0.5)  # of the mean: 0, 2, 1
    assert lost(gold) == pytest.approx(1.0)
    assert relative_drop(np.array([[0.0, 1.0, 2.0]])) == 0.0
    assert relative_drop(np.array([[0.0, -1.0, -2.0]])) == 1.0


def curves(ends, *, worlds=40, peak=3.0):
    """gold [worlds, 3] from 0 over a peak to each end, with a little spread."""
    spread = 0.01 * np.random.default_rng(0).standard_normal((worlds, 1))
    return {
        name: np.array([0.0, max(peak, end), end]) + spread * np.array([0.0, 1.0, 1.0])
        for name, end in ends.items()
    }


def stages_of(noisy, clean, control, heads):
    """Arrays as of a run."""
    betas = len(config.default().betas)
    flat = {name: np.tile(each[:, -1:], (1, betas)) for name, each in noisy.items()}
    spread = 0.01 * np.random.default_rng(1).standard_normal(40)
    correlation = {"separate, far": 0.2 + 0.0 * spread, "shared trunk, far": heads + spread}
    correlation["narrow, far"] = correlation["shared trunk, far"]
    whole = {"gold": noisy, "kl gold": flat, "correlation": correlation}
    return {"noise": whole, "no-noise": {"gold": clean}, "shared-errors": {"gold": control}}


GOOD = {"single": 1.0, "mean": 2.0, "WCO": 2.6, "UWO(1)": 2.9, BEST: 3.0, "wide": 0.9}
GOOD |= {"averaged": 1.5, f"shared trunk, {BEST}": 2.5, f"narrow, {BEST}": 2.6}


def test_claims_hold_for_curves_of_the_paper_and_fail_for_others():
    good = stages_of(
        curves(GOOD),
        curves({"single": 3.0}),
        curves({"single": -1.0, "WCO": 0.0, "UWO(1)": -0.5}),
        heads=0.8,
    )
    claims = all_claims(config.default(), good)
    assert [claim.verdict for claim in claims] == ["holds"] * len(claims)
    turned = {"single": 3.0, "wide": 4.0, "averaged": 4.0, f"shared trunk, {BEST}": 4.0}
    turned |= {f"narrow, {BEST}": 3.0, "mean": 3.0, "WCO": 0.4, "UWO(1)": 0.4, BEST: 0.5}
    bad = stages_of(
        curves(turned),
        curves({"single": 1.0}),
        curves({"single": -1.0, "WCO": 2.9, "UWO(1)": 2.9}),
        heads=0.0,
    )
    found = {claim.statement: claim.verdict for claim in all_claims(config.default(), bad)}
    assert set(found.values()) == {"fails"}, found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The quick run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("rm_ensembles")
    with open_run(out, slug="rm_ensembles", config=config.quick()) as job:
        return out, run.run(config.quick(), job)


@pytest.mark.long
def test_the_quick_run_has_its_numbers_and_figures(finished):
    out, outcome = finished
    assert all(np.isfinite(float(claim.value)) for claim in outcome.claims)
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 3
    assert {path.stem for path in (out / "data").glob("*.npz")} == set(run.STAGES)
    assert min(outcome.numbers["noise"]["accuracy"].values()) > 0.6
    # The oracle is the best of all proxies, and never falls.
    with np.load(out / "data" / "noise.npz") as arrays:
        ends = {key: arrays[key][:, -1].mean() for key in arrays if key.startswith("gold/")}
        assert relative_drop(arrays["gold/oracle"]) == 0.0
    assert max(ends, key=lambda key: ends[key]) == "gold/oracle"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": 1}, r"members must be in \[2, inf\)"),
        ({"noise": 0.5}, r"noise must be in \[0, 1/2\)"),
        ({"pairs": 31}, "pairs must be a batch of 32 at least, got 31"),
        ({"penalties": (1.0, 4.0)}, "penalties must have 1 and 2 among them"),
        ({"betas": (0.3, 1.0)}, "betas must fall and have 0.3 among them"),
        ({"rate": 0.0}, r"rate must be in \(0, 1\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)
