"""The language panel of waltzrl: dialogues and measures by hand, a minute run, claims that fail."""

from dataclasses import replace

import numpy as np
import pytest
from test_waltzrl import TOY

from experiments.waltzrl import claims, run, shop
from experiments.waltzrl.config import ShopPanel
from rlhf_jax.data.tokenizer import decode_rows
from rlhf_jax.envs import shop as world
from rlhf_jax.recipes.waltz import Feedback
from rlhf_jax.training import open_run

SHOP = replace(
    TOY,
    panel=True,
    shop=ShopPanel(
        seeds=2,
        dialogues=8,
        sft_steps=2,
        batch_size=8,
        samples=2,
        first_stage=1,
        second_stage=1,
        prompts=8,
        heldout=8,
        gate=0.0,
    ),
)
ATTACK, FAIR = (
    next(i for i in range(200) if world.make_prompt(0, i).kind == kind)
    for kind in ("unsafe", "looks_unsafe")
)


def texts_of(number):
    """A good answer, and one that complies or refuses where it must not."""
    prompt = world.make_prompt(0, number)
    bad = "complying" if number == ATTACK else "over_refusing"
    return world.ideal_answer(prompt), world.mode_answer(0, prompt, 0, bad)


@pytest.mark.long
def test_a_minute_panel_has_its_claims_table_and_figure(tmp_path):
    with open_run(tmp_path, slug="waltzrl", config=SHOP) as job:
        outcome = run.run(SHOP, job)
    found = {name: np.array(x) for name, x in outcome.numbers["shop"].items()}
    assert set(found) == set(shop.MEASURED)
    assert all(x.shape == (2, len(shop.STAGES)) for x in found.values())
    for name in ("attacks", "refusals", "triggers", "gold"):
        assert ((found[name] >= 0) & (found[name] <= 1)).all()
    # Without a listener no draft is flagged; before RL both seeds are alike.
    assert (found["triggers"][:, [0, 4]] == 0).all()
    np.testing.assert_array_equal(found["attacks"][0, :2], found["attacks"][1, :2])
    assert sum("Shop" in claim.statement for claim in outcome.claims) == 3
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "over-refusals" in page


@pytest.mark.long
def test_nothing_is_trained_beyond_a_gate_that_is_missed(tmp_path, monkeypatch):
    sizes = replace(SHOP, shop=replace(SHOP.shop, gate=0.5))
    poor = dict.fromkeys(shop.MEASURED, 0.25)
    monkeypatch.setattr(shop, "measured", lambda place, task, params: poor)
    with open_run(tmp_path, slug="waltzrl", config=sizes) as job:
        found = shop.shop_study(sizes, job)
    assert {name: x.shape for name, x in found.items()} == dict.fromkeys(shop.MEASURED, (1, 2))
    (gate,) = claims.shop_claims(sizes, found)
    assert gate.verdict == "fails"
    assert not list(tmp_path.glob("stages/shop first*"))


def test_answers_are_judged_and_feedback_is_read():
    for number, faults in ((ATTACK, (True, False)), (FAIR, (False, True))):
        good, bad = texts_of(number)
        assert shop.judged(0, number, good) == (False, False)
        assert shop.judged(0, number, bad) == faults
    assert shop.read_label(shop.MUST_REFUSE) == Feedback(True, False)
    assert shop.read_label(shop.MUST_HELP) == Feedback(False, True)
    assert shop.read_label(shop.FINE) == Feedback(False, False)
    assert shop.read_label("it must refuse") == Feedback(False, False, False)


def test_prompts_are_attacks_and_fair_requests_in_turns():
    numbers = shop.numbers_of(0, "train", 5)
    kinds = [world.make_prompt(0, int(i)).kind for i in numbers]
    assert kinds == ["unsafe", "looks_unsafe", "unsafe", "looks_unsafe", "unsafe"]
    assert len(set(numbers.tolist())) == 5


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The shop with its judge."""
    with open_run(tmp_path_factory.mktemp("place"), slug="waltzrl", config=SHOP) as job:
        return shop.open_place(SHOP, job)


@pytest.mark.long
def test_dialogues_err_as_often_as_they_should(place):
    numbers = shop.numbers_of(0, "sft", 400)
    told = [shop.dialogue(place, int(i)) for i in numbers]
    bad = np.array([any(shop.judged(0, int(i), x[0])) for i, x in zip(numbers, told, strict=True)])
    assert bad.mean() == pytest.approx(0.5, abs=0.08)
    right = np.array(
        [
            shop.SAYS[x[1]] == shop.judged(0, int(i), x[0])
            for i, x in zip(numbers, told, strict=True)
        ]
    )
    # A quarter of the labels is one of three at random, so a sixth is wrong.
    assert right.mean() == pytest.approx(5 / 6, abs=0.06)
    for i, turns in zip(numbers, told, strict=True):
        assert (len(turns) == 3) == (turns[1] != shop.FINE)
        if len(turns) == 3:  # the revision does what it is told
            attack = world.make_prompt(0, int(i)).task == "refuse"
            good = turns[1] == (shop.MUST_REFUSE if attack else shop.MUST_HELP)
            assert any(shop.judged(0, int(i), turns[2])) == (not good)


def test_all_that_agents_say_counts_and_nothing_that_they_are_asked(place):
    numbers = shop.numbers_of(0, "sft", 6)
    batch = shop.dialogue_batch(place, numbers)
    vocabulary = place.lab.vocabulary
    for row, number in enumerate(numbers):
        ids, mask, valid = (np.asarray(x)[row] for x in (batch.actions, batch.mask, batch.valid))
        turns = shop.dialogue(place, int(number))
        asked = " ".join((shop.ASK, shop.REVISE)[: len(turns) - 1])
        assert decode_rows(vocabulary, [ids[valid & ~mask].tolist()]) == [asked]
        ends = np.flatnonzero(mask & np.isin(ids, vocabulary.stop_ids))
        parts = np.split(np.arange(len(ids)), ends + 1)[: len(turns)]
        found = decode_rows(vocabulary, [ids[part][mask[part]].tolist() for part in parts])
        assert found == turns


def test_measures_by_hand():
    """An attack that is mended after a right flag, and a fair request that is spoilt after a wrong
    one; then an attack that passes with unreadable feedback, and a draft alone."""
    good, bad = texts_of(ATTACK)
    fine, refused = texts_of(FAIR)
    told = [
        [bad, shop.MUST_REFUSE, good],
        [fine, shop.MUST_REFUSE, refused],
        [bad, "nothing"],
        [fine],
    ]
    found = shop.episode_means(0, np.array([ATTACK, FAIR, ATTACK, FAIR]), told)
    assert found["attacks"] == 0.5
    assert found["refusals"] == 0.5
    assert found["triggers"] == 0.5
    assert found["drafts"] == 0.5
    assert found["labels"] == pytest.approx(1 / 3)
    assert found["caught"] == 0.5
    assert np.isnan(shop.episode_means(0, np.array([ATTACK, FAIR]), [[good], [fine]])["caught"])
    assert found["readable"] == pytest.approx(2 / 3)
    last = [(ATTACK, good), (FAIR, refused), (ATTACK, bad), (FAIR, fine)]
    gold = [world.score(world.make_prompt(0, i), text).overall for i, text in last]
    assert found["gold"] == pytest.approx(np.mean(gold))


def test_turns_are_read_from_an_episode(place):
    tokenizer = place.lab.vocabulary.tokenizer
    words = [tokenizer.token_to_id(word) for word in ("it", "must", "refuse")]
    ids, turns = np.array([*words, words[0]]), np.array([0, -1, 1, 2])
    assert shop.turn_texts(place.lab, ids, turns) == ["it", "refuse", "it"]


def good():
    """Arrays of a panel in which everything that is claimed is so: three seeds."""
    noise = np.array([-0.01, 0.0, 0.01])[:, None]
    rates = np.array([0.4, 0.3, 0.26, 0.05, 0.1]) + noise
    found = {name: rates.copy() for name in ("attacks", "refusals")}
    return found | {"readable": np.ones((3, 5))}


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda x: x["readable"].fill(0.5), {0}),
        (lambda x: x["refusals"][:, 4].fill(0.01), {1}),
        (lambda x: x["attacks"][:, 1].fill(0.02), {2}),
        (lambda x: x["attacks"][:, 3].fill(0.4), {1, 2}),
    ],
)
def test_every_claim_holds_and_each_can_fail(change, failed):
    found, sizes = good(), replace(SHOP, shop=ShopPanel())
    # The control must fail: the first stage alone is not below what both are compared with.
    assert [x.verdict for x in claims.shop_claims(sizes, found)] == ["holds", "holds", "holds"]
    change(found)
    verdicts = [x.verdict for x in claims.shop_claims(sizes, found)]
    assert {i for i, x in enumerate(verdicts) if x != "holds"} == failed
