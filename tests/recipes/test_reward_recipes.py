"""Reward models on repaired labels, with a contrastive term, and by MetaRM, as recipes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import TypeCheckError
from word_lab import VOCABULARY, transformer_lab, word_lab

from rlhf_jax.losses.contrastive import difference_items, simcse_loss, swav_loss
from rlhf_jax.losses.reward import soft_margin_bradley_terry_loss
from rlhf_jax.recipes import (
    Fit,
    contrastive_reward_model,
    meta_reward_model,
    meta_rows,
    pair_rows,
    repaired_columns,
    reward_model,
    voted_strengths,
)
from rlhf_jax.recipes.meta import answer_groups
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import RewardFn

TURNED = np.arange(20) % 5 == 0
CLEAN = [{"prompt": "grey", "chosen": "red", "rejected": "blue"} for _ in TURNED]
PAIRS = [
    {"prompt": "grey", "chosen": "blue", "rejected": "red"} if turned else pair
    for pair, turned in zip(CLEAN, TURNED, strict=True)
]
ANSWERS = [{"prompt": p, "answer": a} for p in ("red", "grey") for a in ("red red", "blue")]
FIT = Fit(optax.adam(0.1), steps=4)
SOFT = partial(reward_model, loss=soft_margin_bradley_terry_loss)
REPAIR = {"share": 0.2, "label_smoothing": 0.3}


def score_lab():
    """The head is a score for each word, and an answer has the sum of its words'."""

    def init(key):
        return {
            "trunk": jnp.zeros(()),
            "head": 0.01 * jax.random.normal(key, (VOCABULARY.size,)),
        }

    def scores(params, trajectory):
        found = params["head"][trajectory.actions]
        return jnp.sum(jnp.where(trajectory.mask, found, 0.0), axis=-1)

    axes = {"reward": {"trunk": (), "head": (None,)}}
    return word_lab()._replace(
        reward=RewardFn(init, scores), scores=jax.jit(scores), axes=axes, router_losses={}
    )


LAB = score_lab()
FIRST = LAB.reward.init(jax.random.key(7))


def fitted(stage, name, recipe, rows, lab=LAB, first=FIRST, fit=FIT):
    return recipe(Stage(stage.run, name), lab, rows, first, fit)


def test_a_short_vote_finds_the_turned_pairs():
    vote = partial(voted_strengths, LAB, PAIRS, {"trunk": jnp.zeros(())}, FIT, batch_size=5)
    strengths = vote(voters=3)
    np.testing.assert_array_equal(strengths < 0, TURNED)
    np.testing.assert_array_equal(vote(voters=3), strengths)
    assert not np.allclose(vote(voters=1), strengths)  # heads and orders of their own


def test_flipped_pairs_train_as_if_they_had_been_right(stage):
    columns = repaired_columns(np.where(TURNED, -1.0, 1.0), "flip", **REPAIR)
    rows = pair_rows(LAB, PAIRS, batch_size=5, columns=columns)
    found = fitted(stage, "flip", SOFT, rows)
    right = fitted(stage, "right", reward_model, pair_rows(LAB, CLEAN, batch_size=5))
    np.testing.assert_allclose(found["head"], right["head"], rtol=1e-5)


def test_dropped_pairs_have_no_weight():
    columns = repaired_columns(np.where(TURNED, -1.0, 1.0), "drop", **REPAIR)
    batch = pair_rows(LAB, PAIRS, batch_size=20, columns=columns)[0]
    blue = VOCABULARY.tokenizer.token_to_id("blue")
    np.testing.assert_array_equal(batch.weights, batch.chosen.actions[:, 0] != blue)
    assert batch.columns.keys() == {"prefs", "gaps"}


def test_unknown_repairs_and_columns_of_other_pairs_are_named():
    with pytest.raises((ValueError, TypeCheckError)):
        repaired_columns(np.ones(3), "drop-margin", **REPAIR)
    for count in (19, 21):
        columns = {"prefs": np.ones(20), "gaps": np.ones(count)}
        with pytest.raises(UserError, match=f"column 'gaps' must be of 20 pairs, got {count}"):
            pair_rows(LAB, PAIRS, batch_size=5, columns=columns)


@pytest.mark.long
def test_meta_reward_model_reads_answers_by_prompt(stage):
    pairs = pair_rows(LAB, PAIRS, batch_size=2)
    rows = meta_rows(LAB, pairs, ANSWERS, batch_size=2)
    assert rows[0].answers.mask.shape == (2, 2, LAB.answer_length)
    fit = partial(fitted, stage, fit=Fit(optax.sgd(1.0), steps=4))
    plain = fit("plain", reward_model, pairs)
    zero, far = (fit(f"eta {x}", partial(meta_reward_model, eta=x), rows) for x in (0.0, 5.0))
    np.testing.assert_array_equal(zero["head"], plain["head"])
    assert not np.allclose(far["head"], plain["head"])


def test_answers_are_grouped_by_prompt_and_groups_of_other_sizes_are_named():
    rows = [{"prompt": p, "answer": a} for p, a in ("xa", "yc", "xb", "yd")]
    assert [[row["answer"] for row in group] for group in answer_groups(rows)] == [
        ["a", "b"],
        ["c", "d"],
    ]
    for wrong, sizes in ((rows[:3], "1, 2"), (rows[:2], "1"), ([], "none")):
        with pytest.raises(UserError, match=f"at least two; found prompts with {sizes}$"):
            answer_groups(wrong)


@pytest.mark.long
def test_a_transformer_with_a_contrastive_term(stage):
    """Weight 0 without dropout is the reward model; prototypes are trained and left behind."""
    lab = transformer_lab()
    first, rows = lab.reward.init(jax.random.key(0)), pair_rows(lab, CLEAN, batch_size=4)
    fit = partial(fitted, stage, rows=rows, lab=lab, first=first, fit=Fit(optax.sgd(0.1), steps=2))
    simcse = partial(simcse_loss, temperature=0.1)
    none = partial(contrastive_reward_model, contrast=simcse, weight=0.0, dropout=0.0)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, fit("none", none), fit("plain", reward_model))
    swav = partial(swav_loss, temperature=0.1)
    options = {"contrast": swav, "weight": 0.1, "items": difference_items, "prototypes": 3}
    found = fit("swav", partial(contrastive_reward_model, **options))
    assert jax.tree.structure(found) == jax.tree.structure(first)
    assert all(bool(np.isfinite(x).all()) for x in jax.tree.leaves(found))


@pytest.mark.parametrize(
    ("lab", "fit", "message"),
    [
        (LAB, FIT._replace(parts=2), "no micro-batches"),
        (LAB._replace(router_losses={"reward": None}), FIT, "mixture of experts"),
    ],
)
def test_what_a_contrastive_term_cannot_have_is_named(stage, lab, fit, message):
    recipe = partial(contrastive_reward_model, contrast=simcse_loss, weight=1.0)
    with pytest.raises(UserError, match=message):
        recipe(stage, lab, pair_rows(LAB, CLEAN, batch_size=4), FIRST, fit)
