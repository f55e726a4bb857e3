"""rlbff at toy sizes: its draws, its comments, and claims that fail when they should."""

from dataclasses import replace
from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.rlbff import claims, comments, config, fits, run, shop, toy
from rlhf_jax.data.principles import FeedbackComment, PrinciplePoint, agreed_points
from rlhf_jax.training import open_run

TOY = config.Config(
    num_seeds=2,
    principles=3,
    features=4,
    items=300,
    test=400,
    steps=60,
    pool=16,
    prompts=20,
    chosen=2,
    offsets=config.Offsets(prompts=5),
    shop=config.ShopSizes(num_seeds=2, answers=60, prompts=6, words=40),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A toy run: its folder and its outcome."""
    out = tmp_path_factory.mktemp("rlbff")
    with open_run(out, slug="rlbff", config=TOY) as job:
        return out, run.run(TOY, job)


@pytest.mark.long
def test_directions_have_their_length_and_labels_their_probability():
    u = toy.directions(jax.random.key(0), TOY)
    np.testing.assert_allclose(jnp.linalg.norm(u, axis=-1), TOY.scale, rtol=1e-5)
    items = toy.draw_feedback(jax.random.key(1), u, TOY, 20_000)
    probs = jax.nn.sigmoid(jnp.sum(u[items.principles] * items.x, -1))
    # Four standard errors of a fair coin.
    assert abs(float(jnp.mean(items.labels - probs))) < 4 * 0.5 / 20_000**0.5
    assert set(np.unique(items.principles)) == {0, 1, 2}
    chosen, rejected = toy.draw_pairs(jax.random.key(2), u[:1], TOY, 20_000)
    gaps = (chosen - rejected) @ u[0]
    # P(chosen is better) = E sigmoid(|gap|) of a gap with standard deviation 2 sqrt 2.
    assert abs(float(jnp.mean(gaps > 0) - jnp.mean(jax.nn.sigmoid(jnp.abs(gaps))))) < 0.015


def test_calibration_sees_a_shifted_zero():
    key = jax.random.key(0)
    scores = 2.0 * jax.random.normal(key, (20_000,))
    labels = jax.random.bernoulli(jax.random.key(1), jax.nn.sigmoid(scores))
    right, bins = fits.verdict_calibration(scores, labels)
    shifted, _ = fits.verdict_calibration(scores + 0.6, labels)
    assert float(right) < 3 * (10 / 20_000) ** 0.5
    assert float(shifted) > 0.05
    np.testing.assert_allclose(bins[:, 2].sum(), 1.0, rtol=1e-5)


def test_the_area_is_the_share_of_right_pairs():
    scores, labels = np.array([0.1, 0.4, 0.4, 0.9, -1.0]), np.array([0, 1, 0, 1, 0], bool)
    pairs = [(scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]) for i in (1, 3)
             for j in (0, 2, 4)]  # fmt: skip
    assert fits.area_under_curve(scores, labels) == pytest.approx(np.mean(pairs))
    assert np.isnan(fits.area_under_curve(scores, np.ones(5, bool)))


def test_consensus_by_counting_is_that_of_the_library():
    named = np.random.default_rng(0).integers(0, 3, (40, 3))
    count = np.sum(named[:, :, None] == named[:, None, :], -1)
    people = [FeedbackComment(n, who, "") for n in range(40) for who in range(3)]
    points = [
        PrinciplePoint(n, who, str(named[n, who]), "yes", "", "")
        for n in range(40)
        for who in range(3)
    ]
    for agree in (1, 2, 3):
        kept = agreed_points(points, people, annotators=agree).points
        expected = {(n, who) for n, who in zip(*np.nonzero(count >= agree), strict=True)}
        assert {(point.answer, point.annotator) for point in kept} == expected


def test_comments_are_read_back_without_loss():
    labels = np.random.default_rng(0).random((30, len(comments.NAMES))) < 0.5
    perfect = replace(TOY.shop, careful=1.0, careless=1.0, invented=0.0, misquoted=0.0)
    written = comments.write_comments(3, labels, perfect)
    assert written == comments.write_comments(3, labels, perfect)
    steps = shop.pipeline(3, labels, replace(TOY, shop=perfect))
    assert shop.rightness(steps["extracted"].points, labels).all()
    assert steps["checked"].points == steps["extracted"].points
    assert not shop.invented_points(steps["extracted"].points).any()
    found = shop.counted(steps, labels)
    assert found["kept/extracted"] > found["kept/agreed"] > found["kept/merged"] > 0


def test_invented_points_are_not_in_their_comment():
    sizes = replace(TOY.shop, invented=1.0, misquoted=1.0)
    texts = ["well . a polite answer .", "hm . it names the price ."]
    for text, points in zip(texts, comments.faulty_extractor(0, sizes)(texts), strict=True):
        assert points is not None
        *quoted, invented = points
        assert invented[2] not in text
        assert [len(point[2]) for point in quoted] == [len(text.split(" . ")[1]) - 3]
    rng = Random("x")
    assert comments._invented(texts[0], rng)[2] not in texts[0]


def test_best_answers_are_those_of_their_prompt():
    sizes = replace(TOY, shop=replace(TOY.shop, prompts=2, pool=2))
    scores = np.array([[[[0.0, 1.0, 5.0, 5.0]]]])
    truth = np.array([[[False, True, False, True]]])
    found = shop.best_followed(scores, truth, sizes)
    # The second of the first prompt, the first of the second; then chance, and any.
    np.testing.assert_array_equal(found, [[[0.5], [0.5], [1.0]]])


@pytest.mark.long
def test_entailment_serves_the_principle_and_nobody_else_does(finished):
    found = {claim.statement: claim for claim in finished[1].claims}
    assert len(found) == 12
    gap = next(claim for name, claim in found.items() if "queried principle, worst" in name)
    assert float(gap.value) > 0.05 > float(gap.baseline[1])
    best = next(claim for name, claim in found.items() if "gold of the chosen" in name)
    assert float(best.value) > 0.0 > float(best.baseline[1])
    page = (finished[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3


@pytest.mark.long
def test_rewards_that_learned_nothing_fail(finished):
    stage = dict(np.load(finished[0] / "data" / "principles.npz"))
    for name in ("accuracy", "average"):
        stage[f"{name}/entailment"] = stage[f"{name}/Bradley-Terry"]
    stage["error/entailment"] = np.full(2, 0.2) + 0.01 * np.arange(2)
    verdicts = [claim.verdict for claim in claims.principle_claims(TOY, stage)]
    assert verdicts == ["fails", "holds", "holds", "fails"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": 100}, "items must be a multiple of three annotators, got 100"),
        ({"wrong": 1.0}, r"wrong must be in \[0, 1\)"),
        ({"chosen": 4}, r"chosen must be in \[1, 3\]"),
        ({"pool": 8}, r"pool must be in \[16, inf\)"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TOY, **change)
