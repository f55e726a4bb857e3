"""The dpo_survey experiment: the taxonomy's rows, the claims and what breaks them, a toy run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.dpo_survey import claims, config, run, training
from experiments.dpo_survey import variants as v
from experiments.dpo_survey import worlds as w
from experiments.dpo_survey.taxonomy import MISSING, ROWS, call, place
from rlhf_jax.algos import preference, unpaired
from rlhf_jax.losses import apo_zero_loss, kto_loss
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.training import open_run

TOY = config.Config(
    num_seeds=2, prompts=2, answers=3, many=200, some=100, few=40, steps=20, rounds=2
)
CONDITIONS = list(w.conditions(TOY))
ALL = [(dimension, row) for dimension, rows in ROWS.items() for row in rows]


# ---- The taxonomy.


@pytest.mark.long
@pytest.mark.parametrize(("dimension", "row"), ALL, ids=[f"{d}: {r.method}" for d, r in ALL])
def test_every_row_runs(dimension, row):
    found = jax.tree.leaves(call(row))
    assert found
    assert all(np.isfinite(np.asarray(x)).all() for x in found)
    assert place(row.function).split(".")[0] in ("losses", "algos", "feedback")


def test_every_dimension_has_rows_and_says_what_is_missing():
    assert list(ROWS)[1:] == list(MISSING)
    assert {d: len({row.family for row in rows}) for d, rows in ROWS.items()} == {
        "Basic methods": 1,
        "Data strategy": 8,
        "Learning framework": 5,
        "Constraint mechanism": 4,
        "Model property": 4,
    }
    assert len({(d, row.family, row.method) for d, row in ALL}) == len(ALL)


def test_three_variants_at_least_of_each_dimension_are_compared():
    found = [each.dimension for each in v.variants().values()]
    assert all(found.count(name) >= 3 for name in ("data", "framework", "constraint", "property"))
    assert len(found) - found.count("basic") >= 12


# ---- Claims.


def noisy(value, size=5):
    return value + 1e-3 * np.random.default_rng(0).standard_normal(size)


def good() -> dict:
    """Numbers of a run in which everything that is claimed is so."""

    def policy(gain=0.9, kl=0.005, spent=0.7, drift=0.0, accuracy=0.98):
        row = {
            "gain": gain,
            "KL from the optimum": kl,
            "KL to the reference": spent,
            "drift": drift,
            "accuracy": accuracy,
        }
        return {name: np.stack([noisy(x)] * len(CONDITIONS)) for name, x in row.items()}

    found = {name: policy() for name in (*v.variants(), "optimum")}
    found["greedy"] = policy(gain=1.3)
    found["SimPO"] = policy(kl=0.37)
    found["DPO"] = policy(drift=1.7)
    at = CONDITIONS.index
    found["DPO"]["gain"][at("flips")] = noisy(0.4)
    found["DPO"]["KL from the optimum"][at("length")] = noisy(0.57)
    found["R-DPO"] = policy(drift=-0.4)
    found["KTO"] = policy(gain=0.93, spent=1.5)
    found["hinge"] = policy(gain=0.8, spent=0.5)
    found["SFT"] = policy(accuracy=0.7)
    return found


def fallen(numbers) -> list[str]:
    return [claim.statement for claim in claims.all_claims(TOY, numbers) if not claim.holds]


def test_everything_holds_where_it_should():
    assert fallen(good()) == []
    assert len(claims.all_claims(TOY, good())) == 10


@pytest.mark.parametrize(
    ("name", "metric", "condition", "value", "broken"),
    [
        ("DPO", "KL from the optimum", "clean, many", 0.03, "DPO, 200 clean pairs: KL"),
        ("SimPO", "KL from the optimum", "clean, many", 0.01, "DPO, 200 clean pairs: KL"),
        ("rDPO", "gain", "flips", 0.7, "at least"),
        ("rDPO", "gain", "flips", 1.1, "at most"),
        ("DPO", "gain", "flips", 0.7, "30% flipped: gain"),
        ("IPO", "accuracy", "flips", 0.9, "ranking accuracy"),
        ("SFT", "accuracy", "flips", 0.98, "ranking accuracy"),
        ("R-DPO", "KL from the optimum", "length", 0.1, "R-DPO at the price"),
        ("DPO", "drift", "length", 0.5, "DPO, 200 pairs, labels biased"),
        ("SimPO", "drift", "length", 1.2, "SimPO, 200 pairs"),
        ("KTO", "gain", "clean, many", 0.8, "KTO at z0 = 0, 200 clean pairs: gain"),
        ("KTO", "KL to the reference", "clean, many", 0.5, "clean pairs: KL to the reference"),
    ],
)
def test_what_breaks_a_claim(name, metric, condition, value, broken):
    numbers = good()
    numbers[name][metric][CONDITIONS.index(condition)] = noisy(value)
    assert any(broken in statement for statement in fallen(numbers))


# ---- Parts by hand.


def test_labels_by_hand():
    """r = (1, 0), lengths (2, 6): biased by 0.25 a token, the two answers are worth the same."""
    world = w.Worlds(*(np.array([[x]]) for x in ([1.0, 0.0], [-0.7, -0.7], [2.0, 6.0])))
    sure = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(w.label_probs(world, w.Condition(1))[0, 0, 0, 1], sure)
    flipped = w.label_probs(world, w.Condition(1, flip_rate=0.3))[0, 0]
    np.testing.assert_allclose(flipped[0, 1], 0.7 * sure + 0.3 * (1 - sure))
    np.testing.assert_allclose(w.label_probs(world, w.Condition(1, 0.3, 0.25))[0, 0, 0, 1], 0.5)


def test_counts_are_of_the_pairs_that_were_bought():
    pairs = w.uniform_pairs((2, 3, 4))
    np.testing.assert_allclose(pairs.sum((1, 2, 3)), 1.0)
    always = np.broadcast_to(np.triu(np.ones((4, 4)), 1), pairs.shape)  # the smaller index wins
    counts = w.draw_counts(np.random.default_rng(0), pairs, always, 500)
    np.testing.assert_array_equal(counts.sum((1, 2, 3)), 500)
    assert np.tril(counts).sum() == 0


def test_numbers_of_a_policy_by_hand():
    """pi = (3/4, 1/4) from (1/2, 1/2): gain 1/4, drift -1, KL log 2 - H(1/4), half of no order."""
    log = np.log
    world = w.Worlds(*(np.array([[x]]) for x in ([1.0, 0.0], [log(0.5)] * 2, [2.0, 6.0])))
    found = w.measure(world, np.array([[[log(0.75), log(0.25)]]]), beta=0.5)
    np.testing.assert_allclose(found["gain"], 0.25)
    np.testing.assert_allclose(found["drift"], -1.0)
    np.testing.assert_allclose(found["KL to the reference"], 0.75 * log(1.5) + 0.25 * log(0.5))
    assert found["accuracy"] == 1.0
    best = w.optimum(world, 0.5)
    np.testing.assert_allclose(best[0, 0, 0] - best[0, 0, 1], 2.0)
    np.testing.assert_allclose(w.measure(world, best, 0.5)["KL from the optimum"], 0.0, atol=1e-12)
    assert w.measure(world, world.ref_logps, 0.5)["accuracy"] == 0.5


def small_batch():
    ref = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (2, 3)))
    counts = jnp.asarray(np.random.default_rng(0).integers(0, 5, (2, 3, 3)), jnp.float32)
    lengths = jnp.array([[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]])
    return training.pair_batch(ref, lengths, counts)


def test_rows_of_the_batch_are_chosen():
    batch = small_batch()
    assert int(batch.chosen.actions[1, 2, 0, 0]) == 2
    assert int(batch.rejected.actions[1, 2, 0, 0]) == 0
    assert int(batch.chosen.inputs[1, 2, 0, 0]) == int(batch.rejected.inputs[1, 2, 0, 0]) == 1
    assert float(batch.columns["chosen_lengths"][1, 2, 0]) == 7.0
    assert float(batch.columns["rejected_lengths"][1, 2, 0]) == 5.0
    rows = preference.attach_reference(tabular_policy(2, 3), jnp.zeros((2, 3)), batch)
    np.testing.assert_allclose(np.asarray(rows.ref_chosen_logps), -np.log(3), rtol=1e-6)


def test_kto_on_both_answers_of_a_pair_is_half_of_apo_zero():
    """At z0 = 0; a mean over twice as many answers."""
    batch, policy = small_batch(), tabular_policy(2, 3)
    params = jax.random.normal(jax.random.key(1), (2, 3))

    def kto(*x):
        return kto_loss(*x, kl=0.0, beta=0.5)

    def apo(*x, chosen_lengths, rejected_lengths):
        return apo_zero_loss(*x, beta=0.5)

    single, _ = unpaired.make_objective(policy, kto)(params, v.single_answers(batch), {})
    double, _ = preference.make_objective(policy, apo)(params, batch)
    np.testing.assert_allclose(2 * single.value(), double.value(), rtol=1e-6)


def test_pairs_that_are_asked_for():
    ref = np.log(np.full((1, 2, 3), 1 / 3))
    logps = np.log(np.array([[[0.8, 0.1, 0.1], [1 / 3, 1 / 3, 1 / 3]]]))
    own = v.own_answers(TOY, logps, ref)
    np.testing.assert_allclose(own.sum((-1, -2)), 1.0)
    np.testing.assert_allclose(own[0, 0, 0, 1], 0.08 / (4 * 0.08 + 2 * 0.01))
    asked = v.uncertain(TOY, logps, ref)
    assert asked[0, 0, 0, 1] == 0  # the gap is log 8; all others are 0
    assert asked[0, 0, 1, 2] == 1
    np.testing.assert_array_equal(asked[0, 1], ~np.eye(3, dtype=bool))


# ---- A run.


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the toy size."""
    out = tmp_path_factory.mktemp("dpo_survey")
    with open_run(out, slug="dpo_survey", config=TOY) as job:
        return out, run.run(TOY, job)


def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == 10
    assert np.isfinite([float(claim.value) for claim in outcome.claims]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 5
    kept = dict(np.load(out / "data" / "measured.npz"))
    assert kept["DPO/gain"].shape == (4, 2)
    assert all(np.isfinite(x).all() for x in kept.values())
    moved = [name for name in v.variants() if np.abs(kept[f"{name}/gain"]).max() > 1e-3]
    assert moved == list(v.variants())
    assert outcome.table is not None
    assert len(outcome.table.rows) == len(v.variants()) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip_rate": 0.5}, r"flip_rate must be in \[0, 1/2\)"),
        ({"beta": 0.0}, r"beta must be in \(0, inf\)"),
        ({"answers": 1}, r"answers must be in \[2, inf\)"),
        ({"follow": 1.5}, r"follow must be in \[0, 1\]"),
        ({"longest": 2, "shortest": 3}, "longest must be at least shortest"),
        ({"few": 3}, "few must be at least rounds 4"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
