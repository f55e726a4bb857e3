"""The waltzrl experiment at a toy size, its game by hand, and claims that can fail."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.waltzrl import claims, config, game, run, training
from rlhf_jax.training import open_run

TOY = config.Config(num_seeds=2, batch=128, first_stage=40, second_stage=40, every=20)
VIEWS = {"sees_first": 0.78, "sees_second": 0.85}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the toy size."""
    out = tmp_path_factory.mktemp("waltzrl")
    with open_run(out, slug="waltzrl", config=TOY) as job:
        return out, run.run(TOY, job)


@pytest.mark.long
def test_a_small_run_has_its_claims_numbers_and_figures(finished):
    out, outcome = finished
    assert len(outcome.claims) == 5
    numbers = [*(float(claim.value) for claim in outcome.claims)]
    assert np.isfinite([*numbers, *jax.tree.leaves(dict(outcome.numbers))]).all()
    assert (out / "report.html").read_text().count("data:image/png;base64,") == 3
    runs = dict(np.load(out / "data" / "agents.npz"))
    assert runs["attacks"].shape == (len(training.METHODS), 2, 5)

    def drawn(measure, method):
        return claims.curves(runs, measure, method)

    # The first stage moves feedback alone, and one agent's curve is of its drafts alone.
    for rate in claims.RATES:
        np.testing.assert_array_equal(
            drawn(rate, "both")[:, :3], drawn(rate, "conversation frozen")[:, :3]
        )
        assert (drawn(rate, "one agent")[:, 1] < drawn(rate, "one agent")[:, 0]).all()
    assert (drawn("triggers", "one agent") == 0).all()
    assert (drawn("labels", "both")[:, 2] > drawn("labels", "both")[:, 0] + 0.2).all()
    assert (drawn("labels", "both, DIR alone")[:, 2] < drawn("labels", "both")[:, 2]).all()
    assert not np.array_equal(drawn("attacks", "both"), drawn("attacks", "conversation frozen"))


def test_before_training_by_hand():
    """Drafts follow the view by sigmoid(1.4) = 0.8022; 0.78 of the views are right."""
    alone = game.measure(*game.start(), listens=False, **VIEWS)
    follows = 1 / (1 + np.exp(-1.4))
    attacks = 0.78 * (1 - follows) + 0.22 * follows
    np.testing.assert_allclose([alone.attacks, alone.refusals], attacks, rtol=1e-5)
    assert float(alone.triggers) == 0.0
    assert float(alone.spoils) == 0.0
    together = game.measure(*game.start(), listens=True, **VIEWS)
    np.testing.assert_allclose(together.triggers, 2 / 3, rtol=1e-5)
    np.testing.assert_allclose(together.labels, 1 / 3, rtol=1e-5)
    # A revision is right after a draft that is: over messages none, for it and against it
    # (sigmoid 1, sigmoid 2 and sigmoid 0) / 3; after a bad one the rest of the same.
    stays = np.mean(1 / (1 + np.exp([-1.0, -2.0, 0.0])))
    bad = attacks / 3 + 2 / 3 * (attacks * stays + (1 - attacks) * (1 - stays))
    np.testing.assert_allclose(together.attacks, bad, rtol=1e-5)
    np.testing.assert_allclose(together.spoils, 2 / 3 * (1 - attacks) * (1 - stays), rtol=1e-5)


def sure(table):
    return jnp.asarray(table) * 100.0


def test_agents_who_pool_their_views():
    """Feedback that trusts its view, and a revision that does what it is told: errors 0.15."""
    conversation = np.zeros((game.STATES, 2), np.float32)
    feedback = np.zeros((game.FEEDBACK_STATES, 9), np.float32)
    for view, draft in product(range(2), range(2)):
        conversation[view, view] = 1.0
        label, message = (0, 0) if view == draft else ((1, 1) if view else (2, 2))
        feedback[int(game.feedback_state(view, draft)), 3 * label + message] = 1.0
        for said in range(3):
            row = int(game.revision_state(view, draft, said))
            conversation[row, {0: draft, 1: 1, 2: 0}[said]] = 1.0
    found = game.measure(sure(conversation), sure(feedback), listens=True, **VIEWS)
    np.testing.assert_allclose([found.attacks, found.refusals], 0.15, atol=1e-5)
    np.testing.assert_allclose(found.labels, 0.85, atol=1e-5)
    # Flagged where the views differ: 0.78 0.15 + 0.22 0.85.
    np.testing.assert_allclose(found.triggers, 0.78 * 0.15 + 0.22 * 0.85, atol=1e-5)
    np.testing.assert_allclose(found.spoils, 0.78 * 0.15, atol=1e-5)


def test_labels_of_drafts():
    found = game.true_label(jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 0, 1]))
    assert found.tolist() == [0, 2, 1, 0]


@pytest.mark.long
def test_samples_of_an_episode_by_hand():
    """A harmful prompt: a bad draft, flagged rightly and revised well; the same unflagged; a good
    draft flagged and spoilt."""
    episode = training.Episode(
        kind=jnp.array([1, 1, 1]),
        first=jnp.array([0, 0, 1]),
        second=jnp.array([1, 1, 0]),
        draft=jnp.array([0, 0, 1]),
        said=jnp.array([3 * 1 + 1, 0, 3 * 2 + 2]),
        revision=jnp.array([1, 1, 0]),
    )
    tables = game.start()
    weight = jnp.asarray(0.5)
    spoke, judged = training.samples_of(TOY, training.Method(), episode, tables, weight)
    np.testing.assert_array_equal(spoke.weights, [[1, 1, 1], [1, 0, 1]])
    # Drafts pay 0, 0, 1 and revisions 1, -, 0: of mean 2/5.
    advantages = spoke.columns["advantages"][..., 0]
    np.testing.assert_allclose(advantages, [[-0.4, -0.4, 0.6], [0.6, 0.0, -0.4]], atol=1e-6)
    np.testing.assert_array_equal(spoke.answers.inputs[1, :, 0], [3, 2, 13])
    # Feedback: 1 + 0.5 for the first, nothing for wrong labels: of mean 0.5.
    np.testing.assert_allclose(judged.columns["advantages"][:, 0], [1.0, -0.5, -0.5], atol=1e-6)
    plain = training.Method(conditioned=False, labels=(0.0, 0.0))
    _, judged = training.samples_of(TOY, plain, episode, tables, jnp.asarray(0.0))
    # 1, 0 and -1 for the draft that was spoilt.
    np.testing.assert_allclose(judged.columns["advantages"][:, 0], [1.0, 0.0, -1.0], atol=1e-6)
    alone = training.Method(listens=False)
    spoke, _ = training.samples_of(TOY, alone, episode, tables, weight)
    np.testing.assert_array_equal(spoke.weights, [[1, 1, 1], [0, 0, 0]])


def good():
    """Measures in which everything holds."""
    rng = np.random.default_rng(0)
    shape = (len(training.METHODS), 10, 3)
    runs = {x: 0.15 + 0.001 * rng.normal(size=shape) for x in game.Measures._fields}
    runs["labels"] = 0.85 + 0.001 * rng.normal(size=shape)
    runs["labels"][4] -= 0.1
    for rate in claims.RATES:
        runs[rate][0, :, -1] += 0.07
        runs[rate][1, :, -1] += 0.09
        runs[rate][0, :, 0] = 0.33
        runs[rate][2, :, 0] = 0.4
    return runs


def verdicts(runs):
    return [claim.verdict for claim in claims.all_claims(TOY, runs)]


def test_every_claim_holds_and_each_can_fail():
    assert verdicts(good()) == ["holds"] * 5
    for change, places in (
        (lambda r: r["attacks"][0].fill(0.15), {0, 3}),
        (lambda r: r["refusals"][1].fill(0.15), {1}),
        (lambda r: r["labels"].fill(0.8), {2}),
        (lambda r: r["attacks"][2, :, 0].fill(0.2), {3}),
        (lambda r: r["refusals"][2, :, 0].fill(0.2), {4}),
    ):
        runs = good()
        change(runs)
        failed = {i for i, verdict in enumerate(verdicts(runs)) if verdict != "holds"}
        assert failed
        assert failed <= places


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_stage": 30}, "first_stage must be a multiple of every 20"),
        ({"second_stage": 50}, "second_stage must be a multiple of every 20"),
        ({"sees_first": 0.5}, r"sees_first must be in \(1/2, 1\)"),
        ({"rate": 0.0}, r"rate must be in \(0, 100\]"),
    ],
)
def test_values_out_of_range_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        config.Config(**change)


@pytest.mark.parametrize("name", ["default", "quick"])
def test_every_size_is_valid(name):
    assert isinstance(getattr(config, name)(), config.Config)
