"""What the offline recipes share: the loop, its points of measurement, micro-batches."""

from dataclasses import replace
from functools import partial
from importlib import import_module

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from word_lab import VOCABULARY, transformer_lab, word_lab

from rlhf_jax.algos.unpaired import init_bco
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.recipes import (
    Fit,
    answer_rows,
    at_points,
    bco,
    dro,
    moving_preference,
    pair_rows,
    preference,
    preference_model,
    reference_logps,
    reward_model,
    supervised,
    unpaired,
)
from rlhf_jax.recipes.lab import start_training
from rlhf_jax.recipes.offline import (
    counted_tokens,
    fit_rows,
    fit_state,
    nothing,
    on_trunk,
    pair_scores,
    preference_of,
)
from rlhf_jax.recipes.rows import pair_batch
from rlhf_jax.training import UserError
from rlhf_jax.types import RewardFn

ANSWERS = [
    {"prompt": "red", "answer": "green"},
    {"prompt": "blue", "answer": "red red grey"},
    {"prompt": "green", "answer": "blue red"},
    {"prompt": "grey", "answer": "grey"},
]
PAIRS = [{"prompt": "red", "chosen": row["answer"], "rejected": "blue"} for row in ANSWERS]


@pytest.mark.parametrize(
    ("points", "steps"), [(1, [9]), (3, [2, 6, 9]), (10, list(range(10))), (20, list(range(10)))]
)
def test_points_are_the_last_steps_of_equal_parts(points, steps):
    """10 / 3 and 20 / 3 round to 3 and 7 updates."""
    measure = at_points(lambda params, step: {"at": step}, steps=10, points=points)
    assert [step for step in range(10) if measure(None, step)] == steps


def test_the_params_of_a_state_are_measured(stage):
    seen = []

    def measure(params, step):
        seen.append((params, step))
        return {}

    def step(state, batch):
        return {"params": state["params"] + batch, "other": -1}, {"loss": 0.0}

    fit = Fit(optax.identity(), steps=3, measure=at_points(measure, steps=3, points=2))
    start = {"params": 0, "other": -1}
    assert fit_state(stage, step, start, [1, 10, 100], fit, lambda state: state["params"]) == 111
    assert seen == [(11, 1), (111, 2)]


def test_tokens_that_count_are_summed_over_the_trajectories_of_a_batch():
    # Answers and stops: "green", "red red grey" and twice "blue" are 2 + 4 + 2 * 2.
    rows = pair_batch(word_lab(), PAIRS[:2])
    assert counted_tokens(rows) == 10
    assert counted_tokens({"scores": np.ones(3)}) == 0


def test_rows_are_fitted_in_order(stage):
    """The update adds its batch to the params; the first params stay as they were."""
    lab = word_lab()

    def update(state, batch):
        return state._replace(params=2 * state.params + batch), {"loss": batch}

    start = jnp.zeros(VOCABULARY.size)
    fit = Fit(optax.identity(), steps=3)
    params = fit_rows(stage, lab, update, [1.0, 10.0, 100.0], start, fit, part="policy")
    np.testing.assert_array_equal(params, np.full(VOCABULARY.size, 4.0 + 20.0 + 100.0))
    np.testing.assert_array_equal(start, np.zeros(VOCABULARY.size))
    assert nothing(params, 0) == {}


def test_a_state_of_another_kind_starts_with_its_own_zeros():
    start, optimizer = jnp.ones(VOCABULARY.size), optax.sgd(1.0)
    state, step = start_training(
        word_lab(), start, (None,), optimizer, lambda state, batch: (state, {}), init=init_bco
    )
    assert state.shift == (0.0, 0.0)
    step(state, 0.0)  # reuses the memory of its state
    np.testing.assert_array_equal(start, np.ones(VOCABULARY.size))


def test_a_reward_model_begins_on_the_trunk_of_a_policy():
    fresh = RewardFn(lambda key: {"trunk": "new", "head": "new"}, word_lab().reward.scores)
    params = on_trunk(word_lab()._replace(reward=fresh), {"trunk": "policy's"}, jax.random.key(0))
    assert params == {"trunk": "policy's", "head": "new"}


def test_a_preference_model_needs_a_token_between_the_answers():
    lab = word_lab()
    assert preference_of(lab).logits is not None
    without = replace(lab.vocabulary, bos_id=None, stop_ids=(0, 1, 2))
    with pytest.raises(UserError, match="needs a vocabulary with a bos_id"):
        preference_of(lab._replace(vocabulary=without))


def test_pairs_are_scored_chosen_first():
    lab = word_lab()._replace(scores=lambda params, answers: params * answers.mask.sum(-1))
    # "green", "red red grey", "blue red" and "grey" with their stops; "blue" has 2 tokens.
    scores = pair_scores(lab, jnp.float32(10.0), PAIRS, batch_size=3)
    np.testing.assert_array_equal(scores, [[20, 20], [40, 20], [30, 20], [20, 20]])


def fitted(stage, recipe, rows, parts):
    fit = Fit(optax.sgd(0.5), steps=1, parts=parts)
    stage = replace(stage, name=f"{recipe.func.__name__}{parts}", loops={})
    return recipe(stage=stage, rows=rows, params=jnp.zeros(VOCABULARY.size), fit=fit)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["answers", "pairs"])
def test_micro_batches_fit_the_same_params(stage, kind):
    lab = word_lab()
    if kind == "answers":
        recipe, rows = partial(supervised, lab=lab), answer_rows(lab, ANSWERS, batch_size=4)
    else:
        recipe = partial(preference, lab=lab, loss=partial(dpo_loss, beta=0.5))
        refs = reference_logps(lab, jnp.zeros(VOCABULARY.size), PAIRS, batch_size=4)
        rows = pair_rows(lab, PAIRS, batch_size=4, reference=refs)
    whole, parts = (fitted(stage, recipe, rows, n) for n in (1, 2))
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-7)
    assert np.abs(whole).max() > 0.01


@pytest.mark.long
def test_a_reference_that_does_not_move_is_the_usual_one_and_one_that_does_is_not(stage):
    lab, loss = word_lab(), partial(dpo_loss, beta=0.5)
    refs = reference_logps(lab, jnp.zeros(VOCABULARY.size), PAIRS, batch_size=4)
    rows = pair_rows(lab, PAIRS, batch_size=4, reference=refs)

    def fit_for(recipe, name, steps=3):
        here = replace(stage, name=name, loops={})
        fit = Fit(optax.sgd(0.5), steps=steps)
        start = jnp.zeros(VOCABULARY.size)
        return recipe(stage=here, lab=lab, rows=rows, params=start, fit=fit, loss=loss)

    usual = fit_for(preference, "usual")
    still = fit_for(partial(moving_preference, rate=0.0), "still")
    np.testing.assert_allclose(still, usual, rtol=1e-6, atol=1e-7)
    # The reference moves after the second step and the third finds the policy itself as its
    # reference: the gradient of the first step at another place, and so larger than usual.
    moved = fit_for(partial(moving_preference, rate=1.0, every=2), "moved")
    two = fit_for(preference, "two", steps=2)
    assert np.linalg.norm(moved - two) > np.linalg.norm(usual - two) > 0


def test_every_offline_recipe_takes_micro_batches(stage, monkeypatch):
    """The updates are not built; their options are recorded."""
    seen = []

    def record(make_update, *arguments, parts, **options):
        seen.append((make_update.__module__.split(".")[-1], make_update.__name__, parts))

    # The function `unpaired` hides its module in the package.
    for name in ("offline", "unpaired"):
        module = import_module(f"rlhf_jax.recipes.{name}")
        monkeypatch.setattr(module, "built", record)
        for rest in ("fit_rows", "fit_state"):
            monkeypatch.setattr(module, rest, lambda *args, **options: None)
        monkeypatch.setattr(module, "start_training", lambda *args, **options: (None, None))
    common = (stage, transformer_lab(), [], None, Fit(optax.identity(), steps=1, parts=3))
    supervised(*common)
    reward_model(*common)
    preference_model(*common)
    preference(*common, loss=dpo_loss)
    moving_preference(*common, loss=dpo_loss, rate=0.5)
    unpaired(*common, loss=dpo_loss)
    bco(*common, beta=1.0)
    dro(*common, beta=1.0, critic=None)
    names = ["sft", "reward_model", "preference_model", "preference", "moving_reference"]
    assert [module for module, _, _ in seen] == [*names, *["unpaired"] * 3]
    assert {parts for _, _, parts in seen} == {3}
