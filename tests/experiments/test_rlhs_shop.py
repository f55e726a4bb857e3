"""The language panel of rlhs: pairs and labels by hand, a minute run, claims that fail."""

from dataclasses import replace

import numpy as np
import pytest
from test_rlhs import TINY

from experiments.rlhs import claims, run, shop
from experiments.rlhs.config import ShopPanel
from rlhf_jax.envs import shop as world
from rlhf_jax.labs.shop import SPLITS
from rlhf_jax.labs.shop_models import GATES
from rlhf_jax.training import open_run

SIZES = ShopPanel(worlds=1, pairs=16, steps=1, prompts=4)
SHOP = replace(TINY, panel=True, shop=SIZES)


@pytest.mark.long
def test_a_minute_panel_has_its_claims_table_and_figure(tmp_path):
    with open_run(tmp_path, slug="rlhs", config=SHOP) as job:
        outcome = run.run(SHOP, job)
    found = outcome.numbers["shop"]
    assert set(found) == {"competence", *shop.SHOWN}
    for name in shop.SHOWN:
        assert set(found[name]) == set(shop.MEASURES)
        assert len(found[name]["utility"]) == 1
        assert all(0.2 <= x <= 1.0 for x in found[name]["satisfaction"])
        assert all(-1.0 <= x <= 1.0 for x in found[name]["utility"])
    np.testing.assert_allclose(found[shop.BEFORE]["kl"], 0.0, atol=1e-3)
    made = sum(claim.statement.startswith("Shop: ") for claim in outcome.claims)
    assert made in (4, 8)  # the gates, and what is behind them where they pass
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "utility after the purchase" in page


def test_prompts_are_tempting_and_pairs_differ_in_what_a_customer_says():
    numbers = shop.tempting(0, "pairs", 12)
    assert len(set(numbers.tolist()) & set(SPLITS["pairs"])) == 12
    for number in numbers.tolist():
        prompt = world.make_prompt(0, number)
        flattery, truth = world.flattering_answer(prompt), world.ideal_answer(prompt)
        say = [shop.customer_value("foresight", 1.0, 0, prompt, x) for x in (flattery, truth)]
        assert say[0] > say[1]
    pairs = shop.sales_pairs(0, numbers)
    assert 0 < len(pairs) <= 12
    for row in pairs:
        prompt = world.make_prompt(0, row["number"])
        ends = [world.shop_outcome(prompt, row[side]) for side in ("chosen", "rejected")]
        said = [(end.foresight, end.hindsight) for end in ends]
        assert said[0] != said[1]


def test_a_promise_that_is_broken_pleases_before_the_purchase_alone():
    """The best product lacks a wanted feature; a world model of accuracy 1 is the truth."""
    numbers = shop.tempting(0, "pairs", 60).tolist()
    prompts = [world.make_prompt(0, number) for number in numbers]
    broken = [p for p in prompts if world.shop_outcome(p, world.flattering_answer(p)).broken]
    assert broken
    for prompt in broken:
        text = world.flattering_answer(prompt)
        before, after = (
            shop.customer_value(kind, 0.75, 0, prompt, text) for kind in ("foresight", "hindsight")
        )
        assert before >= 0.5
        assert after < 0.0
        assert shop.customer_value("simulated hindsight", 1.0, 0, prompt, text) == after


def test_log_probs_go_with_the_answers_that_they_are_of():
    pairs = [{"prompt": "p", "chosen": f"a{i}", "rejected": f"b{i}"} for i in range(3)]
    sides = {"chosen": np.array([1.0, 2.0, 3.0]), "rejected": np.array([-1.0, -2.0, -3.0])}
    winners = np.array([0, 1, 0])
    rows, found = shop.ordered(pairs, winners), shop.ordered_logps(sides, winners)
    assert [row["chosen"] for row in rows] == ["a0", "b1", "a2"]
    assert [row["rejected"] for row in rows] == ["b0", "a1", "b2"]
    np.testing.assert_array_equal(found["chosen"], [1.0, -2.0, 3.0])
    np.testing.assert_array_equal(found["rejected"], [-1.0, 2.0, -3.0])


def good():
    """Numbers of a panel in which everything that is claimed is so: 3 worlds of 40 prompts."""
    noise = 0.01 * np.random.default_rng(0).standard_normal((4, 3, 5, 40))
    means = {"SFT": (0.4, 0.6), "foresight": (0.2, 0.8)}
    means |= {"simulated hindsight": (0.5, 0.6), "hindsight": (0.6, 0.6)}
    rows = [np.array([*means[name], 0.1, 0.8, 1.0])[:, None] for name in shop.SHOWN]
    values = {name: row + x for name, row, x in zip(shop.SHOWN, rows, noise, strict=True)}
    return {"competence": {name: np.full(40, 0.95) for name in GATES}, "values": values}


def set_to(name, measure, value):
    """A change of one policy's measure."""
    return lambda x: x["values"][name][:, shop.MEASURES.index(measure)].fill(value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x["competence"]["gold"].fill(0.1), "mean gold"),
        (set_to("foresight", "satisfaction", 0.6), "satisfaction at once"),
        (set_to("hindsight", "utility", 0.3), "hindsight minus SFT"),
        (set_to("foresight", "utility", 0.7), "minus in foresight"),
        (set_to("simulated hindsight", "utility", 0.1), "a world model"),
    ],
)
def test_every_claim_of_the_shop_holds_and_each_can_fail(change, words):
    made = claims.shop_claims(SHOP, good())
    assert [claim.verdict for claim in made] == ["holds"] * 8
    assert len(made) == len({claim.statement for claim in made})
    found = good()
    change(found)
    fallen = [each.statement for each in claims.shop_claims(SHOP, found) if each.verdict != "holds"]
    assert any(words in name for name in fallen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": 0.4}, r"accuracy must be in \[0.5, 1\]"),
        ({"prompts": 1}, r"prompts must be in \[2, 5000\]"),
        ({"beta": 0.0}, r"beta must be in \(0, 1000000\]"),
        ({"rate": float("nan")}, "rate must"),
    ],
)
def test_sizes_that_nothing_can_be_measured_at_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ShopPanel(**change)
