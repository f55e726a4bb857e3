"""Comparisons as soft labels: matrices, pairs as data, OSP by hand, and that it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import TASK, keyed, probability_of_red, rollout_of, unigram_lab

from rlhf_jax.losses.feedback import verdict_prefs
from rlhf_jax.losses.preference import dpo_loss, soft_preference_loss
from rlhf_jax.ops.pairings import ranked_pairing
from rlhf_jax.recipes import (
    Fit,
    Scored,
    judged_prefs,
    list_prefs,
    online,
    osp,
    prompt_rows,
    self_judged,
    self_prefs,
    soft_pairs,
    task_reward,
)
from rlhf_jax.recipes.methods.soft_pairs import length_gaps, ranked_pair_batch
from rlhf_jax.recipes.rewards import judged_matrix
from rlhf_jax.training import UserError, open_run, run_stage
from rlhf_jax.types import VerdictFn

LAB = unigram_lab()
START = LAB.policy.init(None)


def more_red(prompts, first, second):
    """P of the answer with more reds: sigmoid of twice the difference; None of two empty ones."""
    reds = np.array([[text.split().count("red") for text in side] for side in (first, second)])
    found = 1 / (1 + np.exp(-2.0 * (reds[0] - reds[1])))
    blank = [not (a or b) for a, b in zip(first, second, strict=True)]
    return [None if none else float(p) for none, p in zip(blank, found, strict=True)]


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"hard": True}, {"pairing": "ends", "temperature": 2.0}])
def test_osp_makes_the_preferred_word_likely(tmp_path, options):
    numbers = prompt_rows(TASK, batch_size=8, seed=0)
    fit = Fit(optax.adam(0.1), steps=15)
    method = osp(LAB, samples=4, beta=0.1, **options)

    def work(stage):
        args = (TASK, method, judged_prefs(LAB, TASK, more_red), START, numbers, fit)
        return {"params": online(stage, LAB, *args, key=keyed(LAB))}, {}

    with open_run(tmp_path / "run", slug="osp", config={}) as run:
        params = run_stage(run, "online", work).arrays["params"]
    assert probability_of_red(params) > 0.25


ANSWERS = np.array([[[4, 5], [5, 6], [7, 7], [4, 4]]])
PREFS = jnp.array(
    [[[0.5, 0.9, 0.7, 0.2], [0.1, 0.5, 0.4, 0.3], [0.3, 0.6, 0.5, 0.4], [0.8, 0.7, 0.6, 0.5]]]
)


def scored(prefs=PREFS):
    rollout = rollout_of(LAB, ANSWERS)
    return Scored(rollout, jnp.zeros((1, 4)), rollout.token_logps - 0.1, prefs=prefs)


def test_a_batch_by_hand():
    """Win rates 1.8, 0.8, 1.3, 2.1 over 3: order 3, 0, 2, 1; pairs (3, 2) and (0, 1)."""
    batch, metrics = osp(LAB, samples=4).prepare(START, scored())
    assert batch.chosen.actions.tolist() == [[4, 4], [4, 5]]
    assert batch.rejected.actions.tolist() == [[7, 7], [5, 6]]
    np.testing.assert_allclose(batch.columns["prefs"], [0.6, 0.9], rtol=1e-5)
    assert batch.weights.tolist() == [1.0, 1.0]
    logps = 2 * jax.nn.log_softmax(START)[4] - 0.2
    np.testing.assert_allclose(batch.ref_chosen_logps, [logps, logps], rtol=1e-5)
    np.testing.assert_allclose(metrics["pairs/strength"].value(), 0.75, rtol=1e-5)
    entropy = [-p * np.log(p) - (1 - p) * np.log(1 - p) for p in (0.6, 0.9)]
    np.testing.assert_allclose(metrics["pairs/entropy"].value(), np.mean(entropy), rtol=1e-5)
    assert float(metrics["pairs/longer"].value()) == 0.0
    lengths = length_gaps(jnp.array([[[1, 1], [1, 0]]], bool), *jnp.array([[[0]], [[1]]]))
    assert lengths.tolist() == [[1.0]]


def test_hard_labels_are_online_dpo_and_a_missing_verdict_has_no_weight():
    soft, hard = (osp(LAB, samples=4, beta=0.3, hard=each) for each in (False, True))
    params = START + 0.1 * jnp.arange(len(START))
    batch, _ = hard.prepare(START, scored())
    assert batch.columns["prefs"].tolist() == [1.0, 1.0]
    pair = [
        LAB.policy.logps(params, side.inputs, side.actions).sum(-1)
        for side in (batch.chosen, batch.rejected)
    ]
    refs = (batch.ref_chosen_logps, batch.ref_rejected_logps)
    np.testing.assert_allclose(
        hard.objective(params, batch)[0].value(), dpo_loss(*pair, *refs, beta=0.3).mean(), rtol=1e-5
    )
    batch, _ = soft.prepare(START, scored())
    np.testing.assert_allclose(
        soft.objective(params, batch)[0].value(),
        soft_preference_loss(*pair, *refs, jnp.array([0.6, 0.9]), beta=0.3).mean(),
        rtol=1e-5,
    )
    unknown = PREFS.at[0, 0, 1].set(jnp.nan).at[0, 1, 0].set(jnp.nan)
    batch, metrics = soft.prepare(START, scored(unknown))
    # win rates 0.45, 0.35, 1.3 / 3, 0.7: order 3, 0, 2, 1, and (0, 1) has no verdict
    assert batch.weights.tolist() == [1.0, 0.0]
    assert float(metrics["pairs/decided"]) == 0.5
    assert bool(jnp.isfinite(soft.objective(params, batch)[0].value()))
    sure = ranked_pairing(PREFS)
    columns = ranked_pair_batch(scored(), sure, hard=True)[0].columns or {}
    assert columns["prefs"].tolist() == [1.0, 1.0]
    tied, _ = hard.prepare(START, scored(jnp.full((1, 4, 4), 0.5)))
    assert tied.weights.tolist() == [0.0, 0.0]


def test_what_osp_cannot_pair_is_named():
    with pytest.raises(ValueError, match="samples must be even, got 3"):
        osp(LAB, samples=3)
    with pytest.raises(ValueError, match=r"samples must be in \[2, inf\)"):
        osp(LAB, samples=1)
    assert task_reward(LAB, TASK).prefs is None
    with pytest.raises(ValueError, match="osp needs comparisons: a reward by judged_prefs"):
        osp(LAB, samples=4).prepare(START, scored(None))


def toy_logps(params, first, second):
    """A judge of first symbols, with a bias of 0.3 to the first place."""
    scores = [params * x.actions[..., 0].astype(jnp.float32) for x in (first, second)]
    gap = scores[0] - scores[1]
    orders = jnp.stack([gap + 0.3, 0.3 - gap], axis=-1)
    return jnp.stack([orders, jnp.zeros_like(orders)], axis=-1)


TOY = VerdictFn(lambda key: jnp.ones(()), toy_logps)


def test_comparisons_of_all_answers_by_hand():
    trajectory = rollout_of(LAB, ANSWERS).trajectory
    prefs = self_prefs(TOY, jnp.float32(0.5), trajectory)
    assert prefs.shape == (1, 4, 4)
    np.testing.assert_allclose(prefs + jnp.swapaxes(prefs, 1, 2), 1.0, rtol=1e-6)
    # first symbols 4 and 5: gap -0.5, margins -0.2 and 0.8
    want = 0.5 * (jax.nn.sigmoid(-0.2) + jax.nn.sigmoid(-0.8))
    np.testing.assert_allclose(prefs[0, 0, 1], want, rtol=1e-6)
    assert float(prefs[0, 2, 0]) > 0.5
    pairs = (
        jax.tree.map(lambda x: x[:, :1], trajectory),
        jax.tree.map(lambda x: x[:, 1:2], trajectory),
    )
    np.testing.assert_allclose(
        verdict_prefs(TOY.logps(0.5, *pairs))[0, 0], prefs[0, 0, 1], rtol=1e-6
    )
    slope = jax.grad(lambda p: jnp.sum(self_prefs(TOY, p, trajectory) ** 2))(jnp.float32(0.5))
    assert float(slope) == 0.0


def test_a_frozen_judge_gives_win_rates_and_comparisons():
    reward = self_judged(LAB._replace(mesh=None), TOY, jnp.float32(0.5))
    trajectory = rollout_of(LAB, ANSWERS).trajectory
    assert reward.prefs is not None
    prefs = reward.prefs(reward.params, (), trajectory)
    scores = reward.scores(reward.params, (), trajectory)
    np.testing.assert_allclose(scores, (prefs.sum(-1) - 0.5) / 3, rtol=1e-5)
    assert callable(judged_matrix(LAB, TASK, more_red))


ROWS = [
    {"prompt": "red", "answers": ["a", "b", "c", "d"], "id": 7},
    {"prompt": "blue", "answers": ["e", "f", "g", "h"], "id": 8},
]


def test_pairs_and_labels_as_data():
    prefs = np.concatenate([np.asarray(PREFS)] * 2)
    prefs[1, 0, 1] = prefs[1, 1, 0] = np.nan
    pairs, labels = soft_pairs(ROWS, prefs)
    assert [(x["chosen"], x["rejected"], x["id"]) for x in pairs] == [
        ("d", "c", 7),
        ("a", "b", 7),
        ("h", "g", 8),
    ]
    np.testing.assert_allclose(labels, [0.6, 0.9, 0.6], rtol=1e-6)
    assert "answers" not in pairs[0]
    assert len(soft_pairs(ROWS[:1], prefs[:1], pairing="ends")[0]) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(soft_pairs, ROWS, np.full((1, 4, 4), 0.5)), "prefs must be of 2 records, got 1"),
        (partial(soft_pairs, ROWS, np.full((2, 4, 4), 1.5)), r"prefs must be in \[0, 1\]"),
        (partial(soft_pairs, ROWS, np.full((2, 3, 3), 0.5)), "an even number of answers"),
        (partial(soft_pairs, ROWS, np.full((2, 4, 4), np.nan)), "none of the pairs of 2 records"),
    ],
)
def test_labels_that_are_none_are_named(call, message):
    with pytest.raises((ValueError, UserError), match=message):
        call()


@pytest.mark.parametrize("answers", [["a"], ["a", "b", "c"]])
def test_records_of_other_numbers_of_answers_are_named(answers):
    rows = [{"prompt": "p", "answers": ["a", "b"]}, {"prompt": "q", "answers": answers}]
    with pytest.raises(UserError, match="record 1: comparisons need the same number of answers"):
        list_prefs(LAB, TOY, START, rows, batch_size=2)
