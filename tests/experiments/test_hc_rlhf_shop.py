"""The language panel of hc_rlhf: its pieces, and a run of toy size."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.hc_rlhf import claims, config, run, shop, shop_report
from rlhf_jax.envs.shop.reading import read_answer
from rlhf_jax.exact.upper_bounds import cost_inflation
from rlhf_jax.training import open_run

SIZES = config.ShopPanel(
    seeds=1,
    demos=8,
    sft_steps=1,
    pairs=16,
    cost_steps=1,
    prompts=8,
    rl_steps=1,
    batch_size=8,
    samples=2,
    buffer=16,
    limit=0.2,
    tests=2,
    test_size=4,
)
TOY = replace(config.quick(), panel=True, shop=SIZES)


def test_prompts_are_unsafe_and_of_their_split():
    train, held = (shop.unsafe_prompts(0, split, 5) for split in ("train", "heldout"))
    assert [prompt.task for prompt in (*train, *held)] == ["refuse"] * 10
    assert not {prompt.text for prompt in train} & {prompt.text for prompt in held}
    assert train == shop.unsafe_prompts(0, "train", 7)[:5]


def test_a_policy_is_returned_by_tests_of_its_own_costs():
    """Clopper-Pearson at 0.1: 14 of 100 leave at most 0.196 and 15 at most 0.207."""
    sizes = config.ShopPanel(tests=3, limit=0.2)
    costs = np.zeros((3, 100))
    costs[0, :14] = costs[1, :15] = costs[2, :40] = 1.0
    found = shop.tests_of(sizes, costs.ravel())
    np.testing.assert_array_equal(found[1], [True, False, False])
    # t: 0.14 + 1.290 * 0.0349 = 0.185 and 0.15 + 1.290 * 0.0359 = 0.196
    np.testing.assert_array_equal(found[0], [True, True, False])


def test_only_the_pessimistic_limit_has_a_margin():
    plain, harsh = (shop.limits_of(SIZES, method) for method in shop.TRAINED)
    assert plain.inflation == 0.0
    assert harsh.inflation == cost_inflation(SIZES.buffer, SIZES.test_size, delta=SIZES.delta)
    assert plain.thresholds == harsh.thresholds == {shop.COST: SIZES.limit}


def policies() -> dict:
    """One start, two of each method: the second Lagrangian is unsafe, and harm is twice as often
    as the model flags."""
    found = {}
    for name, share, kept in (
        ("start 0", 0.5, [False, False]),
        ("Lagrangian 0", 0.1, [True, False]),
        ("Lagrangian 1", 0.3, [True, True]),
        ("HC (0,2) 0", 0.05, [True, True]),
        ("HC (0,2) 1", 0.15, [True, True]),
    ):
        flagged = (np.arange(100) < 100 * share).astype(float)
        harm = (np.arange(100) < 200 * share).astype(float)
        found[name] = {
            "served": np.ones(100),
            "harm": harm,
            shop.COST: flagged,
            "kl": np.zeros(100),
            "returned": np.array([kept, [False, True]]),
            "cost": np.full(SIZES.rl_steps, share),
            "multiplier": np.ones(SIZES.rl_steps),
        }
    return found


def test_rates_of_a_method_are_over_its_policies():
    rates = shop_report.policy_rates(TOY, policies())
    plain, harsh = rates["Lagrangian"], rates["HC (0,2)"]
    np.testing.assert_array_equal(plain["returned, t"], [True, False, True, True])
    np.testing.assert_array_equal(plain["unsafe, t"], [False, False, True, True])
    np.testing.assert_array_equal(plain["unsafe, clopper_pearson"], [False, False, False, True])
    assert not harsh["unsafe, t"].any()
    np.testing.assert_array_equal(harsh["harmful, t"], [False, False, True, True])
    assert plain["harm"].mean() == pytest.approx(0.4)
    assert not rates["start"]["returned, t"].any()


def test_the_table_has_every_policy_and_interval():
    table = shop_report.shop_table(TOY, policies())
    cells = {row[0]: row for row in table.rows}
    # 10 of 100: the exact interval is [0.049, 0.176].
    assert cells["Lagrangian 0"][2] == "0.100 [0.049, 0.176]"
    assert cells["Lagrangian 0"][4:] == ("1 of 2", "1 of 2")
    assert cells["Lagrangian, returned and unsafe"][4].startswith("0.500 [")
    assert len(table.rows) == 5 + 3 * 3
    assert {len(row) for row in table.rows} == {len(table.headers)}


def test_the_page_of_a_run_with_the_panel_has_its_figure_and_numbers(tmp_path, monkeypatch):
    """The other stages and the rest of the page are in test_hc_rlhf."""
    shown = {}
    monkeypatch.setattr(
        run, "run_stages", lambda job, works: {name: {"taken": 0} for name in works}
    )
    monkeypatch.setattr(run, "shop_panel", lambda config, job: (policies(), {"accuracy": 0.9}))
    monkeypatch.setattr(run, "all_claims", lambda config, stages: [])
    monkeypatch.setattr(run, "trained_table", lambda config, stages: None)
    monkeypatch.setattr(run, "summary", lambda config, stages: {})
    monkeypatch.setattr(run, "write_report", lambda *given: shown.update(shop=given[3]))
    two = replace(TOY, shop=replace(SIZES, seeds=2))
    outcome = run.run(two, None)
    assert [*shown["shop"]] == [*policies()]
    assert outcome.numbers["shop"]["Lagrangian"]["unsafe, t"] == 0.5
    assert outcome.numbers["shop cost model"] == {"accuracy": 0.9}
    figure = shop_report.shop_figure(two, policies()).figure
    assert len(figure.axes) == 4
    assert figure.axes[2].get_xlabel() == "seed"


def test_the_claim_of_the_panel_holds_and_can_fail():
    found = policies()
    for name, tests in (("Lagrangian 0", [False, False]), ("Lagrangian 1", [True, False])):
        found[name]["returned"] = np.array([tests, tests])
    found["HC (0,2) 0"]["returned"] = np.array([[True, False]] * 2)
    found["HC (0,2) 1"]["returned"] = np.array([[True, True]] * 2)
    (claim,) = claims.shop_claims(TOY, found)
    assert claim.verdict == "holds"  # 0.5 in both seeds; the start is never returned
    assert claim.baseline == ("the start in its place", -0.25)
    found["start 0"]["returned"][:] = True
    assert claims.shop_claims(TOY, found)[0].verdict == "undecided"
    found["Lagrangian 0"]["returned"][:] = True
    assert claims.shop_claims(TOY, found)[0].verdict == "undecided"


@pytest.mark.long
def test_a_toy_panel_trains_and_tests_each_policy(tmp_path):
    with open_run(tmp_path, slug="hc_rlhf", config=TOY) as job:
        found, worth = shop.shop_panel(TOY, job)
        place = shop.open_place(TOY, job)
        records, columns, gold = shop.judged_pairs(place, "pairs")
        task = shop.shop_prompts(place, cost_params(place))
    assert [*found] == ["start 0", "Lagrangian 0", "HC (0,2) 0"]
    for name, each in found.items():
        assert each["harm"].shape == (8,)
        assert set(each[shop.COST]) <= {0.0, 1.0}
        assert each["returned"].shape == (2, 2)
        assert ("multiplier" in each) == (name != "start 0")
    assert found["HC (0,2) 0"]["multiplier"][0] == 1.0
    assert 0.0 <= worth["accuracy"] <= 1.0
    # A judge of inverse temperature 20 rarely errs: the chosen one is the less harmful.
    assert np.mean(gold[:, 0] <= gold[:, 1]) > 0.8
    assert np.mean((gold > 0) == np.stack([*columns.values()], axis=1)) > 0.8
    assert len(records) == len(gold) == 16
    complying = shop.shop.mode_answer(0, place.train[0], 0, "complying")
    good = shop.shop.mode_answer(0, place.train[0], 0, "good")
    assert task.score is not None
    scores = task.score(np.array([0, 0, 0]), [complying, good, " "])
    assert scores["harm"] == [1.0, 0.0, 0.0]
    assert bool(read_answer(place.train[0], complying).harms)
    assert scores["served"][0] - place.sizes.pay >= 0.0
    assert scores["served"][0] > scores["served"][1] > 0.5
    assert scores[shop.COST][2] == 0.0


def cost_params(place):
    """An untrained cost model on the trunk of `sft`."""
    return shop.on_trunk(place.lab, place.sft, shop.stage_key(place.lab, "cost"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 1.0}, r"limit must be in \(0, 1\)"),
        ({"comply": 0.0}, "comply must be"),
        ({"delta": 0.7}, "delta must be"),
        ({"pay": 0.0}, r"pay must be in \(0, 100\]"),
        ({"test_size": 1}, "test_size must be"),
    ],
)
def test_sizes_of_the_panel_that_mean_nothing_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.ShopPanel(**change)
