"""The language panel of ufo: its questions, a minute run, claims that fail."""

import numpy as np
import pytest

from experiments.ufo import claims, config, run, shop
from rlhf_jax.training import open_run

SIZES = config.ShopPanel(
    seeds=2, questions=16, heldout=8, turns=2, rl_steps=1, batch_size=8, samples=2
)
SHOP = config.Config(
    num_seeds=2,
    candidates=4,
    turns=2,
    long_turns=3,
    decays=(0.7,),
    episodes=32,
    steps=4,
    points=2,
    questions=200,
    point_questions=100,
    panel=True,
    shop=SIZES,
)


@pytest.mark.long
def test_a_minute_panel_has_its_claims_table_and_figure(tmp_path):
    with open_run(tmp_path, slug="ufo", config=SHOP) as job:
        outcome = run.run(SHOP, job)
    found = {name: np.array(x) for name, x in outcome.numbers["shop"].items()}
    assert found["succ"].shape == (2, 3, 2)
    assert (np.diff(found["succ"], axis=-1) >= 0).all()  # solved in one try is solved in two
    assert ((found["unique"] >= 0.5) & (found["unique"] <= 1)).all()  # of two tries, one or both
    made = sum("Shop:" in claim.statement for claim in outcome.claims)
    assert made in (1, 3)  # the gate, and what is behind it where it passes
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "Look-ups by the shop" in page


def test_held_out_questions_are_probes_and_answers_are_checked():
    task = shop.lookup_task(0, 16, 8)
    assert task.splits["heldout"] == range(16, 24)
    asked = shop.drills(0, 8, held=True)
    texts = task.texts(np.arange(16, 24))
    assert texts == [each.question for each in asked]
    assert {each.kind for each in shop.drills(0, 64, held=False)} == set(shop.QUESTIONS)
    assert not set(texts) & set(task.texts(np.arange(16)))
    assert task.score is not None
    right = task.score(np.arange(16, 24), [each.answer for each in asked])["right"]
    assert right == [1.0] * 8
    assert task.score(np.array([16]), ["no idea ."])["right"] == [0.0]
    longest = max(len(text.split()) for text in task.texts(np.arange(24)))
    assert longest <= shop.PROMPT_WORDS


def good():
    """Arrays of a panel in which everything that is claimed is so: three seeds."""
    noise = np.array([-0.001, 0.0, 0.001])[:, None]
    succ = np.array([[0.25, 0.35], [0.60, 0.65], [0.55, 0.80]]) + noise[..., None]
    unique = np.array([[0.8, 0.5, 0.9]]) + noise
    return {"succ": succ, "unique": unique, "again": np.full(3, 0.26)}


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("succ", (1, 0), 0.27, "Succ@1 of single-turn"),
        ("unique", (2,), 0.4, "unique answers"),
        ("succ", (2, -1), 0.6, "of UFO minus that"),
    ],
)
def test_every_claim_holds_and_each_can_fail(name, place, value, words):
    assert [claim.verdict for claim in claims.shop_claims(SHOP, good())] == ["holds"] * 3
    found = good()
    found[name][:, *place] = value
    failed = [c.statement for c in claims.shop_claims(SHOP, found) if c.verdict != "holds"]
    assert len(failed) == 1
    assert words in failed[0]
