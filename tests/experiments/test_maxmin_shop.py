"""The language panel of maxmin_rlhf: users and labels by hand, a minute run, claims that fail."""

from dataclasses import replace

import numpy as np
import pytest
from test_maxmin_rlhf import TOY

from experiments.maxmin_rlhf import claims, run, shop
from experiments.maxmin_rlhf.config import ShopPanel
from rlhf_jax.envs import shop as world
from rlhf_jax.training import open_run

SHOP = replace(
    TOY,
    panel=True,
    shop=ShopPanel(
        seeds=2,
        users=4,
        minority=2,
        pairs=64,
        reward_steps=2,
        restarts=2,
        rl_steps=1,
        batch_size=8,
        samples=2,
        prompts=8,
    ),
)


@pytest.mark.long
def test_a_minute_panel_has_its_claims_table_and_figure(tmp_path):
    with open_run(tmp_path, slug="maxmin_rlhf", config=SHOP) as job:
        outcome = run.run(SHOP, job)
    found = {name: np.array(x) for name, x in outcome.numbers["shop"].items()}
    assert found["win rates"].shape == (2, 3, 2)
    assert ((found["win rates"] >= 0) & (found["win rates"] <= 1)).all()
    assert (found["recall"] <= 1).all()
    assert (found["accuracy"] <= 1).all()
    # A step of 1e-3 moves few answers: policies that share their draws stay near SFT drawn again.
    assert np.abs(np.diff(found["win rates"], axis=1)).max() < 0.5
    made = sum("Shop:" in claim.statement for claim in outcome.claims)
    assert made in (1, 3)  # the gate, and what is behind it where it passes
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "win rate over SFT" in page


def test_users_of_both_groups_and_what_answers_are_worth_to_them():
    np.testing.assert_array_equal(shop.user_groups(ShopPanel(users=5, minority=2)), [0, 0, 0, 1, 1])
    prompt = world.make_prompt(0, 0)
    texts = [world.ideal_answer(prompt), "take what you like ."]
    found = shop.utilities(0, [0], [texts])
    axes = [world.score(prompt, text).vector() for text in texts]
    np.testing.assert_allclose(found[0], world.group_utilities(axes)[:, [0, 2]])


def test_each_user_labels_its_own_pairs_and_leaves_ties_out(tmp_path):
    """Users 0 and 1 like the first answer, 2 and 3 the second; a third of the pairs is a tie."""
    sizes = replace(SHOP.shop, teacher_beta=1e6)
    with open_run(tmp_path, slug="maxmin_rlhf", config=SHOP) as job:
        place = shop.open_place(SHOP, job)._replace(sizes=sizes)
    ties = np.arange(60) % 3 == 0
    worth = np.where(ties[:, None, None], 0.5, [[1.0, 0.0], [0.0, 1.0]])
    vectors = np.broadcast_to(np.array([[1.0], [2.0]]), (60, 2, 1))
    found = shop.user_pairs(place, {"vectors": vectors, "utilities": worth}, 0)
    assert len(found.users) == 40
    assert set(found.users) == {0, 1, 2, 3}
    chosen = np.where(np.array(found.users) < 2, 1.0, 2.0)
    np.testing.assert_array_equal(found.vectors[:, 0, 0], chosen)
    np.testing.assert_array_equal(found.vectors.sum((1, 2)), 3.0)
    other = shop.user_pairs(place, {"vectors": vectors, "utilities": worth}, 1)
    assert other.users != found.users


def good():
    """Arrays of a panel in which everything that is claimed is so: three seeds."""
    noise = np.array([-0.01, 0.0, 0.01])[:, None, None]
    return {
        "win rates": np.array([[0.6, 0.4], [0.55, 0.56], [0.5, 0.5]]) + noise,
        "recall": np.ones((3, 2)),
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x["recall"].fill(0.8), "puts together"),
        (lambda x: x["win rates"][:, 0, 1].fill(0.52), "with one reward"),
        (lambda x: x["win rates"][:, 1, 1].fill(0.4), "MaxMin minus one reward"),
    ],
)
def test_every_claim_holds_and_each_can_fail(change, words):
    assert [claim.verdict for claim in claims.shop_claims(SHOP, good())] == ["holds"] * 3
    found = good()
    change(found)
    others = {claim.statement: claim.verdict for claim in claims.shop_claims(SHOP, found)}
    failed = [name for name, verdict in others.items() if verdict != "holds"]
    assert len(failed) >= 1
    assert any(words in name for name in failed)
