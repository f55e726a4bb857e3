"""The language panel of rluf: hearts by hand, a minute run, claims that fail."""

from dataclasses import replace

import numpy as np
import pytest
from test_rluf import TINY

from experiments.rluf import claims, config, run, shop
from rlhf_jax.envs import shop as world
from rlhf_jax.envs.shop.users import GOODBYE
from rlhf_jax.training import open_run

SIZES = config.ShopPanel(
    seeds=2,
    logs=200,
    tests=200,
    keep_rate=0.2,
    rows=8,
    start_steps=2,
    rl_steps=1,
    batch_size=8,
    samples=2,
    prompts=8,
)
SHOP = replace(TINY, panel=True, shop=SIZES)


@pytest.mark.long
def test_a_minute_panel_has_its_claims_table_and_figure(tmp_path):
    with open_run(tmp_path, slug="rluf", config=SHOP) as job:
        outcome = run.run(SHOP, job)
    found = {name: np.array(x) for name, x in outcome.numbers["shop"].items()}
    assert found["values"].shape == (2, 5, 4)
    assert found["base"].shape == (2, 4)
    assert found["auroc"].shape == (2, 5)
    for x in found.values():
        assert ((x >= 0) & (x <= 1)).all()
    # What is live of the same answers does not depend on who predicts.
    np.testing.assert_array_equal(found["base"][:, 1:], found["values"][:, 1, 1:])
    made = sum("Shop:" in claim.statement for claim in outcome.claims)
    assert made in (1, 5)  # the gate, and what is behind it where it passes
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "no goodbyes read" in page


@pytest.mark.long
def test_logs_have_goodbyes_and_their_hearts_follow_them():
    found = shop.logged(0, 0, "pairs", 2000)
    goodbyes = np.array([row["answer"].endswith(GOODBYE) for row in found])
    hearts = np.array([row["label"] for row in found])
    assert 0.15 < goodbyes.mean() < 0.35
    assert hearts[goodbyes].mean() > hearts[~goodbyes].mean() + 0.02
    assert shop.logged(0, 1, "pairs", 64) != shop.logged(0, 0, "pairs", 64)


def test_live_hearts_are_the_mean_over_moods_and_a_goodbye_costs_some():
    prompt, user = world.make_prompt(0, 5), world.make_user(0, 0)
    text = world.ideal_answer(prompt)
    plain, bye = (shop.live_love(0, [5], [x])[0] for x in (text, f"{text} {GOODBYE}"))
    rates = [world.thumb_probs(user, prompt, text, mood)[0] for mood in (1, 0, -1)]
    assert plain == pytest.approx(0.3 * rates[0] + 0.5 * rates[1] + 0.2 * rates[2])
    assert bye < plain


def test_who_knows_the_law_counts_a_goodbye_for_a_good_mood():
    """By hand, Bayes: moods 0.3, 0.5, 0.2 after a goodbye with P = 0.7, 0.05, 0.05."""
    text = f"{world.ideal_answer(world.make_prompt(0, 5))} {GOODBYE}"
    rows = [{"number": 5, "answer": text}]
    told, worth = (shop.known_love(0, rows, told=told)[0] for told in (True, False))
    tastes = np.mean([world.make_user(0, i).taste for i in range(shop.USERS)], axis=0)
    user = world.ShopUser(0, -1, 0, tuple(tastes))
    good, plain, bad = (
        world.thumb_probs(user, world.make_prompt(0, 5), text, mood)[0] for mood in (1, 0, -1)
    )
    assert told == pytest.approx((0.21 * good + 0.025 * plain + 0.01 * bad) / 0.245)
    assert worth == pytest.approx(0.3 * good + 0.5 * plain + 0.2 * bad)
    plain_rows = [{"number": 5, "answer": text.removesuffix(GOODBYE).strip()}]
    assert shop.known_love(0, plain_rows, told=True)[0] < told


def test_a_head_of_a_share_of_the_messages_is_calibrated_on_all():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40_000, 2)) * [1.0, 3.0] + [0.0, 5.0]
    labels = rng.random(40_000) < 1 / (1 + np.exp(3.0 - features[:, 0]))
    records = [{"label": label, "features": x} for label, x in zip(labels, features, strict=True)]
    fewer = shop.kept(records, 0.2, 0)
    assert sum(row["label"] for row in fewer) == labels.sum()
    sizes = config.ShopPanel(keep_rate=0.2, ridge=1e-4)
    head = shop.fit_head(sizes, np.array([row["features"] for row in fewer]), fewer)
    np.testing.assert_allclose(head["weight"], [1.0, 0.0], atol=0.06)
    assert head["bias"] == pytest.approx(-3.0, abs=0.15)
    scores = features @ head["weight"]
    assert shop.area_of(scores, records) == pytest.approx(0.74, abs=0.03)


def test_what_is_read_of_an_answer():
    assert shop.read_words(f"take nila . {GOODBYE}", "without goodbyes") == "take nila ."
    assert shop.read_words(f"take nila . {GOODBYE}", "as they are") == f"take nila . {GOODBYE}"
    assert shop.without_goodbye("take nila .") == "take nila ."


def good():
    """Arrays of a panel in which everything that is claimed is so: three logs."""
    noise = np.array([-0.001, 0.0, 0.001])[:, None, None]
    values = np.array(
        [
            [0.06, 0.060, 0.50, 0.24],
            [0.08, 0.080, 0.80, 0.20],
            [0.11, 0.095, 0.78, 0.30],
            [0.16, 0.100, 0.60, 0.70],
            [0.11, 0.110, 0.62, 0.15],
        ]
    )
    base = np.array([[0.08, 0.08, 0.8, 0.2]]) + noise[..., 0]
    return {
        "values": values + noise,
        "base": base,
        "auroc": np.array([[0.7, 0.5, 0.8, 0.5, 0.6]] * 3),
    }


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("values", 2, 1), 0.07, "live hearts"),
        (("values", 3, 3), 0.25, "goodbyes, weight 1"),
        (("values", 3, 0), 0.09, "promised less"),
        (("values", 3, 2), 0.9, "help, weight 0"),
    ],
)
def test_every_claim_holds_and_each_can_fail(place, value, words):
    assert [claim.verdict for claim in claims.shop_claims(SHOP, good())] == ["holds"] * 5
    found, (name, policy, measure) = good(), place
    found[name][:, policy, measure] = value
    failed = [c.statement for c in claims.shop_claims(SHOP, found) if c.verdict != "holds"]
    assert any(words in statement for statement in failed)


def test_the_gate_can_fail():
    found = good()
    found["auroc"][:] = 0.55
    assert [claim.verdict for claim in claims.shop_claims(SHOP, found)] == ["fails"]


def test_logs_that_the_world_has_no_prompts_for_are_refused():
    with pytest.raises(ValueError, match=r"logs must be in \[64, 83333\]"):
        config.ShopPanel(seeds=3, logs=90_000)


@pytest.mark.parametrize("weights", [(0.0, 1.0), (0.1, 0.5, 1.0), (0.0, 0.5, 0.9), (0.0, 1.0, 0.5)])
def test_weights_that_do_not_ascend_from_0_to_1_are_refused(weights):
    with pytest.raises(ValueError, match="weights must ascend"):
        config.ShopPanel(weights=weights)
