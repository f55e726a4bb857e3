"""Reward models on the shop: forms of the pairs, measures by hand, claims, the run at toy size."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.shop_rewards import (
    claims,
    config,
    curve,
    density,
    ensemble_claims,
    findings,
    kind_claims,
    measure,
    policies,
    users,
    world,
)
from experiments.shop_rewards import report as rewards_report
from experiments.shop_rewards import run as rewards_run
from experiments.shop_rewards.kinds import KINDS
from rlhf_jax.envs.shop.spurious import has_marker, without_marker
from rlhf_jax.labs.size import Size
from rlhf_jax.training import UserError, open_run

TOY = replace(
    config.quick(),
    size=Size(d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, d_ff=16),
    from_scratch=True,
    data=config.Data(prompts=64, pairs=16, heldout=64, pool_prompts=8, pool_answers=8, tie_gap=0.0),
    training=config.Training(steps=2, batch_size=8),
    kind=config.Kinds(members=2, verified=8),
    users=config.Users(count=4, each=4, heldout=2, steps=2, batch_size=8),
    policy=config.Policy(steps=1, prompts=8, samples=2, points=1, measured=8),
    density=config.Density(steps=1, prompts=8),
)


def pairs(count):
    return [
        {"prompt": f"p {i}", "chosen": "good .", "rejected": "bad .", "index": i}
        for i in range(count)
    ]


# Forms


def test_flipped_pairs_are_swapped_in_their_share_and_marked_as_wrong():
    found = world.in_form(pairs(2000), "flipped", 0.25, 0)
    wrong = np.array([row["wrong"] for row in found])
    assert abs(wrong.mean() - 0.25) < 0.03  # three standard errors
    for row in found:
        assert row["chosen"] == ("bad ." if row["wrong"] else "good .")
        assert {row["chosen"], row["rejected"]} == {"good .", "bad ."}
    assert found == world.in_form(pairs(2000), "flipped", 0.25, 0)
    assert found != world.in_form(pairs(2000), "flipped", 0.25, 1)


@pytest.mark.parametrize("rho", [0.8, -0.8, 0.0])
def test_marks_go_with_the_label_as_often_as_asked(rho):
    """P(mark at the chosen) - P(mark at the other) = rho, in both features; texts are the same."""
    found = world.in_form(pairs(2000), "spurious", rho, 0)
    for i, feature in enumerate(world.FEATURES):
        rows = found[i::2]
        shares = [np.mean([has_marker(r[side], feature) for r in rows]) for side in world.SIDES]
        assert abs(shares[0] - shares[1] - rho) < 0.1
        assert without_marker(rows[0]["chosen"], feature) == "good ."
        assert {row["mark"] for row in rows} == {feature}
    assert not any(row["wrong"] for row in found)


def test_clean_pairs_are_what_they_were():
    assert world.in_form(pairs(3), "clean", 0.8, 0) == [{**r, "wrong": False} for r in pairs(3)]


def test_config_names_a_kind_that_does_not_exist():
    with pytest.raises(ValueError, match=r"kinds must be of scalar, .*, got 'forest'"):
        config.Config(kinds="scalar,forest")
    assert config.Config(kinds="scalar,users").chosen() == ("scalar", "users")
    assert {*config.KINDS} == {*KINDS, "users"}


# Measures


@pytest.mark.long
def test_numbers_by_hand():
    """Two of three margins are right, one is a tie; best of 2 of gold 0, 1 in the right order."""
    gold = np.array([[0.0, 1.0], [1.0, 0.0]])
    words = np.array(
        [[3, 5], [3, 5]]
    )  # long answers score higher in one prompt, lower in the other
    scores = {"heldout": np.array([2.0, 1.0, 0.0]), "pool": np.array([[1.0, 2.0], [2.0, 1.0]])}
    found = measure.numbers_of(scores, gold, words)
    assert found.accuracy == pytest.approx(2.5 / 3)
    assert np.isnan(found.shifted)
    # Confidences of the three: 0.881, 0.731 and 0.5, the last half right.
    assert found.calibration == pytest.approx((0.119203 + 0.268941) / 3, abs=1e-4)
    np.testing.assert_allclose(found.best_of, [0.5, 1.0])
    assert found.mismatch == pytest.approx(0.0)
    assert found.length == pytest.approx(0.0)  # as gold does
    turned = measure.numbers_of({**scores, "pool": -scores["pool"]}, gold, words)
    np.testing.assert_allclose(turned.best_of, [0.5, 0.0])


def test_shifted_pairs_are_counted_by_mark():
    """Marks take turns: of the first the pairs 0 and 2, of the second 1 and 3."""
    gold = np.array([[0.0, 1.0]])
    scores = {"heldout": np.ones(2), "shifted": np.array([1.0, -1.0, -1.0, -1.0])}
    found = measure.numbers_of(scores, gold, gold)
    assert found.shifted == pytest.approx(0.25)
    np.testing.assert_allclose(found.by_mark, [0.5, 0.0])
    assert len(found.by_mark) == len(world.FEATURES)
    assert np.isnan(measure.numbers_of({"heldout": np.ones(2)}, gold, gold).by_mark).all()


def test_scores_by_length_are_of_each_prompt_in_its_own_unit():
    """Longest first in one prompt, and on another scale: in both a word is worth the same."""
    words = np.array([[4.0, 3.0, 2.0, 1.0], [10.0, 20.0, 30.0, 40.0]])
    pool = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 10.0, 20.0, 30.0]])
    unit = np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25)
    np.testing.assert_allclose(measure.scores_by_length(pool, words), unit)
    np.testing.assert_allclose(measure.group_means(words, words), [5.5, 11.0, 16.5, 22.0])
    assert (measure.scores_by_length(np.ones((2, 4)), words) == 0.0).all()


def test_a_score_that_is_wrong_at_its_top_has_a_mismatch():
    """In order but for the two highest: among the best of 16 that is most of the pairs."""
    gold = np.arange(32.0)[None] / 32
    score = np.arange(32.0)[None]
    score[0, [30, 31]] = score[0, [31, 30]]
    assert measure.mismatch(score, gold) > 0.1
    assert measure.mismatch(np.arange(32.0)[None], gold) == pytest.approx(0.0, abs=1e-6)


def test_members_that_err_alike_share_their_errors():
    draws = np.random.default_rng(0)
    gold, both, own = (draws.normal(size=shape) for shape in ((4, 200), (4, 200), (2, 4, 200)))
    assert measure.shared_errors(gold + both + 0.0 * own, gold) == pytest.approx(1.0, abs=1e-5)
    assert measure.shared_errors(gold + own, gold) == pytest.approx(0.0, abs=0.1)
    assert measure.shared_errors(gold + both + own, gold) == pytest.approx(0.5, abs=0.1)


def test_the_peak_is_read_where_the_other_half_has_it():
    """Halves peak at points 1 and 2: 0.5 - 0.3 of the second, 0.7 - 0.4 of the first."""
    gold = np.array([[0.4, 0.4], [0.8, 0.5], [0.7, 0.9], [0.4, 0.3]])
    assert policies.fall(gold) == pytest.approx(((0.7 - 0.4) + (0.5 - 0.3)) / 2)
    assert policies.fall(np.array([[0.4, 0.4], [0.5, 0.6]])) == 0.0


# Numbers of pairs


def test_a_curve_crosses_a_level_between_two_sizes():
    """0.6 is half of the way from 0.5 at 10 to 0.7 at 1000: 100 on the logarithmic axis."""
    values = np.array([0.5, 0.7, 0.9])
    assert curve.crossing([10, 1000, 2000], values, 0.6) == pytest.approx(100.0)
    assert curve.crossing([10, 1000, 2000], values, 0.5) == 10.0
    assert curve.crossing([10, 1000, 2000], values, 0.95) is None


def curve_of(text, named, untrained=0.9):
    sizes = {curve.TEXT: np.array([8, 80]), curve.NAMED: np.array([2, 8, 80])}
    accuracies = {curve.TEXT: np.array(text), curve.NAMED: np.array(named)}
    return curve.Curve(sizes, accuracies, untrained)


def test_no_crossover_fails_and_one_holds():
    found = three_seeds(
        curves=[curve_of([0.5, 0.6 + x], [0.7, 0.9, 0.95]) for x in (0, 1e-3, 2e-3)]
    )
    found.numbers["clean", "wrong features"] = [numbers(0.5)] * 3
    trained, crossover = kind_claims.curve_claims(found, "80 pairs")
    assert trained.verdict == "holds"
    assert trained.value == pytest.approx(0.05)
    assert crossover.verdict == "fails"
    assert crossover.baseline is not None
    assert crossover.baseline == ("both from 8 pairs", pytest.approx(0.5 - 0.9))
    above = [curve_of([0.5, 0.97 + x], [0.7, 0.9, 0.95]) for x in (0, 1e-3, 2e-3)]
    assert kind_claims.curve_claims(found._replace(curves=above), "")[1].verdict == "holds"
    assert kind_claims.curve_claims(found._replace(curves=[]), "") == []
    one = found._replace(users=[], curves=[curve_of([0.5, 0.6], [0.5, 0.9, 0.95])])
    text = rewards_report.text_of(one)
    assert "untrained mean: 8; as the scalar head on all: 3." in text
    assert "as the features on all: more than 80." in text


# Users


def test_tastes_are_opposite_and_labels_noisy():
    expected = 1 / (1 + np.exp(-8.0 * 0.2))
    shares = [
        np.mean([users.chosen_first(0.2, minority, "u", i, 8.0) for i in range(400)])
        for minority in (True, False)
    ]
    assert abs(shares[0] - expected) < 0.06
    assert abs(shares[1] - (1 - expected)) < 0.06


def test_every_fourth_user_is_of_the_minority_and_no_pair_is_judged_twice_by_one():
    sizes = config.Users(count=8, each=3, heldout=2, minority=0.25)
    gaps, indices = np.where(np.arange(40) % 2, 0.3, 0.0), list(range(40))
    found = users.make_users(sizes, indices, gaps, both=False, most=8, name="t/0")
    names = list(dict.fromkeys(found.users))
    assert len(names) == 8
    assert sum("minority" in name for name in names) == 2
    assert (gaps[found.pairs] != 0).all()
    for i in range(8):
        assert len({*found.pairs[3 * i : 3 * i + 3].tolist()}) == 3
    minority = np.array(["minority" in name for name in found.users])
    assert (found.right == (found.first == minority)).all()  # all gaps are for the minority
    both = users.make_users(sizes, indices, gaps, both=True, most=2, name="t/0")
    assert [name.split("/")[2] for name in both.users[::3]] == ["majority", "minority"] * 2
    assert (both.pairs[:3] == both.pairs[3:6]).all()
    with pytest.raises(UserError, match=r"0 pairs differ in taste, fewer than users.each = 3"):
        users.make_users(sizes, indices, 0 * gaps, both=True, most=2, name="t/0")


def test_vectors_are_in_units_of_the_training_answers():
    vectors = np.random.default_rng(0).normal(3.0, 2.0, (50, 2, 4))
    vectors[..., 3] = 1.0  # a feature without spread stays finite
    found = users.standardised(vectors, 30)
    np.testing.assert_allclose(found[:30].mean((0, 1)), 0.0, atol=1e-9)
    np.testing.assert_allclose(found[:30].std((0, 1)), [1.0, 1.0, 1.0, 0.0], atol=1e-9)


def test_the_liked_answer_is_the_first_vector():
    vectors = np.arange(8.0).reshape(2, 2, 2)
    said = users.Judgements(np.array([1, 0]), ("a", "b"), np.array([True, False]), np.ones(2, bool))
    found = users.embedded(vectors, said)
    np.testing.assert_array_equal(found.vectors, [[[4, 5], [6, 7]], [[2, 3], [0, 1]]])
    assert found.users == ("a", "b")


# Claims on invented data


def numbers(accuracy=0.7, shifted=np.nan, gold=0.8, length=0.0):
    marks, groups = np.full(2, shifted), np.zeros(measure.GROUPS)
    return measure.Numbers(
        accuracy, shifted, marks, 0.1, np.array([0.7, gold]), 0.0, length, groups
    )


def three_seeds(**changes):
    """Three seeds in which everything holds."""
    small = np.array([-0.001, 0.0, 0.001])
    found = findings.Findings(
        {
            ("flipped", "scalar"): [numbers(gold=0.80 + x) for x in small],
            ("flipped", "another scalar"): [numbers(gold=0.79 + x) for x in small],
            ("flipped", "WCO"): [numbers(gold=0.85 - x) for x in small],
            ("flipped", "UWO"): [numbers(gold=0.86 - x) for x in small],
            ("spurious", "scalar"): [numbers(shifted=0.5 + x) for x in small],
            ("spurious", "curated"): [numbers(shifted=0.6 - x) for x in small],
            ("flipped", "spans"): [numbers()] * 3,
            ("flipped", "corrections"): [numbers(length=0.1 + x) for x in small],
            ("flipped", "corrections, unnormalised"): [numbers(length=0.5)] * 3,
        },
        {
            "separate": [0.4, 0.41, 0.39],
            "shared": [0.9, 0.92, 0.91],
            "halves": [0.01, -0.03, 0.0],
        },
        {},
        [{"users": {"minority": 0.8 + x}, "Bradley-Terry": {"minority": 0.4}} for x in small],
        {},
        [arms(0.7 + x, 0.5) for x in small],
        [],
    )
    return found._replace(**changes)


def arms(*means):
    curves = (np.linspace(0.3, 2 * mean - 0.3, 4) for mean in means)  # from the same start
    return dict(zip(density.ARMS, curves, strict=True))


def test_claims_hold_where_they_should_and_name_their_size():
    found = claims.all_claims(three_seeds(), config.Data(pairs=2048))
    assert {claim.verdict for claim in found} == {"holds"}
    # Seven readings pass the gate; best of n, errors, curation, users, length, density.
    assert len(found) == 7 + 2 + 1 + 1 + 1 + 1 + 1
    assert sum("2048 pairs" in claim.statement for claim in found) == len(found) - 1


def test_rewards_that_pay_for_length_fail_and_so_does_a_policy_that_learns_no_faster():
    found = three_seeds(density=[arms(0.5 + x, 0.5) for x in (-0.01, 0.0, 0.01)])
    found.numbers["flipped", "corrections"] = [numbers(length=0.4 + x) for x in (0.0, 0.01, 0.02)]
    assert kind_claims.length_claims(found, "")[0].verdict == "fails"
    assert kind_claims.density_claims(found, "")[0].verdict == "undecided"
    found = three_seeds(density=[arms(0.4 + x, 0.5) for x in (-0.01, 0.0, 0.01)])
    assert kind_claims.density_claims(found, "")[0].verdict == "fails"


def test_the_gate_of_curation_is_asked_of_the_curated_model_alone():
    found = three_seeds()
    found.numbers["spurious", "scalar"] = [numbers(shifted=0.5, accuracy=0.5)] * 3
    assert kind_claims.curation_claims(found, "", 0.8)[0].verdict == "holds"
    found.numbers["spurious", "curated"] = [numbers(shifted=0.6, accuracy=0.5)] * 3
    assert kind_claims.curation_claims(found, "", 0.8) == []
    del found.numbers["spurious", "scalar"]
    assert kind_claims.curation_claims(found, "", 0.8) == []


def test_claims_fail_and_stay_undecided():
    worse = three_seeds()
    worse.numbers["flipped", "WCO"] = [numbers(gold=0.7 + x) for x in (0.0, 0.001, 0.002)]
    worse.numbers["flipped", "UWO"] = [numbers(gold=0.8 + x) for x in (-0.05, 0.0, 0.05)]
    found = [claim.verdict for claim in ensemble_claims.best_of_claims(worse, "")]
    assert found == ["fails", "undecided"]
    # Another single model that is as far ahead: the measurement tells nothing.
    worse.numbers["flipped", "another scalar"] = [numbers(gold=0.95)] * 3
    worse.numbers["flipped", "UWO"] = [numbers(gold=0.9)] * 3
    assert ensemble_claims.best_of_claims(worse, "")[1].verdict == "undecided"


def test_a_reading_below_the_gate_is_not_compared():
    found = three_seeds()
    found.numbers["flipped", "WCO"] = [numbers(accuracy=0.55, gold=0.99)] * 3
    assert len(ensemble_claims.best_of_claims(found, "")) == 1
    gates = {
        claim.statement.split(",")[0]: claim.verdict for claim in claims.gate_claims(found, "")
    }
    assert gates["WCO"] == "fails"
    assert gates["UWO"] == "holds"


def test_a_policy_on_a_worse_reward_falls_further():
    def path(end):
        gold = np.array([[0.7, 0.7], [0.8, 0.8], [end, end]])
        return policies.Path(np.arange(3.0), gold)

    runs = {
        "scalar": [path(0.60), path(0.61), path(0.62)],
        "another scalar": [path(0.59), path(0.61), path(0.61)],
        "WCO": [path(0.75), path(0.77), path(0.76)],
        "UWO": [path(0.60), path(0.61), path(0.62)],
    }
    found = three_seeds(policies=runs)
    verdicts = [claim.verdict for claim in ensemble_claims.fall_claims(found, "")]
    assert verdicts == ["holds", "fails"]
    runs["another scalar"] = [path(0.79)] * 3  # falls as little: the measurement tells nothing
    assert ensemble_claims.fall_claims(found, "")[0].verdict == "undecided"


# The whole run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    with open_run(out, slug="shop_rewards", config=TOY, progress=False) as job:
        outcome = rewards_run.run(TOY, job)
    return out, outcome


def test_every_kind_is_measured(whole):
    out, outcome = whole
    found = outcome.numbers["numbers"]
    readings = {name.split(", ", 1)[1] for name in found}
    assert {"scalar", "mean", "WCO", "UWO", "mean, shared trunk", "implicit"} <= readings
    assert {"repaired labels", "curated", "another scalar"} <= readings
    assert {"features", "wrong features", "spans", "pairwise", "judge"} <= readings
    assert {"corrections", "corrections, unnormalised"} <= readings
    assert {"principles, mean", "principles, worst"} <= readings
    assert [{*each} for each in outcome.numbers["density"]] == [{*density.ARMS}]
    assert {name.split(", ")[0] for name in found} == set(world.FORMS)
    assert {*outcome.numbers["policies"]} == {*policies.POLICIES}
    assert {*outcome.numbers["errors"]} == {"separate", "shared", "halves"}
    assert [*outcome.numbers["users"][0]] == list(users.MODELS)
    for name, kind in KINDS.items():
        assert not {*kind.forms} & {*kind.once}, name
        for form in (*kind.forms, *kind.once) if name in readings else ():
            assert np.isfinite(found[f"{form}, {name}"][0]["by_mark"]).all() == (form == "spurious")
    assert [*outcome.numbers["curves"][0]["accuracy"]] == [curve.TEXT, curve.NAMED]
    assert len(outcome.table.rows) == len(readings)
    plots = ("best_of_n", "length", "learning_curve", "policies")
    for name in ("report.html", "data/best_of.npz", *(f"plots/{plot}.png" for plot in plots)):
        assert (out / name).stat().st_size > 0


def test_the_pool_of_one_answer_is_the_same_for_all_readings(whole):
    _, outcome = whole
    found = outcome.numbers["numbers"]
    firsts = {each[0]["best_of"][0] for name, each in found.items() if name.startswith("flipped")}
    assert np.ptp(list(firsts)) < 1e-6


def test_a_finished_run_is_read_again_and_trains_nothing(whole):
    out, outcome = whole
    with open_run(out, slug="shop_rewards", config=TOY, progress=False, resume=True) as job:
        again = rewards_run.run(TOY, job)
    for before, after in zip(
        outcome.numbers["numbers"].values(), again.numbers["numbers"].values(), strict=True
    ):
        for name, value in before[0].items():
            np.testing.assert_array_equal(value, after[0][name])
