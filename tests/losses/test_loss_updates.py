"""Every loss goes through every update that it fits, and is refused by one that it does not fit.

The models of these updates give back their inputs, so that an update's loss must be the mean of
what the loss itself returns.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import Case, draw, every_case

from rlhf_jax.algos import online, preference, preference_model, ranking, reward_model
from rlhf_jax.losses.group_policy_gradient import dapo_loss
from rlhf_jax.ops.masking import Mean, token_mean
from rlhf_jax.types import Policy, PreferenceBatch, PreferenceFn, RewardFn, Trajectory

LEAD = (2, 3)
CASES, _ = every_case()
POLICY = Policy(jnp.zeros, jnp.zeros, lambda params, inputs, actions: params + inputs)
REWARD = RewardFn(jnp.zeros, lambda params, trajectory: params + trajectory.inputs[..., 0])
PREFERENCE = PreferenceFn(jnp.zeros, lambda params, first, second: params + first.inputs[..., 0])
FIRST = ("chosen_logps", "chosen_mean_logps", "first_logps")
REFERENCE = ["ref_chosen_logps", "ref_rejected_logps"]


class Given(NamedTuple):
    """A loss with its free positional arguments by name, and its axes after the leading ones."""

    loss: Callable
    arrays: dict
    out: tuple[int, ...]


def given(case: Case) -> Given:
    kinds = inspect.signature(case.loss).parameters.values()
    names = [each.name for each in kinds if each.kind is not each.KEYWORD_ONLY]
    arrays = (jnp.asarray(x) for x in draw(case.inputs, LEAD))
    return Given(case.loss, dict(zip(names, arrays, strict=False)), case.out)


def one_step(x) -> Trajectory:
    return Trajectory(x[..., None], x[..., None], jnp.ones((*x.shape, 1), bool))


def through_pairs(case: Given) -> Iterator[Mean]:
    """The updates of a loss of two answers' log-probs."""
    first, second, *more = case.arrays
    pair = [one_step(case.arrays[name]) for name in (first, second)]
    columns = {name: case.arrays[name] for name in more}
    weights = columns["mask"].astype(float) if "mask" in columns else None
    objective = online.make_pair_objective(POLICY, case.loss)
    yield objective(0.0, online.PairBatch(*pair, columns, weights))[0]
    if not more or (len(more) == 2 and more[0].startswith("ref_")):
        objective = preference.make_objective(POLICY, case.loss, reference=bool(more))
        yield objective(0.0, PreferenceBatch(*pair, *columns.values()))[0]


def through_lists(case: Given) -> Mean:
    """The update of a loss of ranked lists, in the order they come."""
    first, *more = (name for name in case.arrays if name != "mask")
    values, mask = case.arrays[first], case.arrays["mask"]
    scores = case.arrays.get("scores", jnp.zeros(values.shape))
    refs = case.arrays.get("ref_logps")
    objective = ranking.make_objective(POLICY, case.loss, reads=tuple(more))
    return objective(0.0, ranking.RankingBatch(one_step(values), scores, mask, refs))[0]


def through_answers(case: Given, *, reduction: Callable | None) -> Mean:
    """The update of a loss of tokens and their mask."""
    first, *more = (name for name in case.arrays if name != "mask")
    tokens = case.arrays[first]
    mask = case.arrays.get("mask", jnp.ones(tokens.shape, bool))
    objective = online.make_answer_objective(POLICY, case.loss, reduction=reduction)
    columns = {name: case.arrays[name] for name in more}
    batch = online.AnswerBatch(Trajectory(tokens, tokens, mask), columns)
    return objective(0.0, batch)[0]


def through_every_update(case: Given) -> Iterator[Mean]:
    names = list(case.arrays)
    if names[0] in FIRST:
        yield from through_pairs(case)
    if names[0] == "token_logps" and "mask" in names:
        yield through_answers(case, reduction=token_mean if case.out else None)
    if names[0] in ("logps", "mean_logps") and names[-1] == "mask":
        yield through_lists(case)
    if names == ["chosen_scores", "rejected_scores"]:
        pair = PreferenceBatch(*(one_step(case.arrays[name]) for name in names))
        yield reward_model.make_objective(REWARD, loss=case.loss)(0.0, pair)[0]
    if names == ["margins"]:
        margins = one_step(case.arrays["margins"])
        objective = preference_model.make_objective(PREFERENCE, loss=case.loss)
        yield objective(0.0, PreferenceBatch(margins, margins))[0]


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_a_loss_goes_through_the_updates_it_fits_and_no_other(name):
    case = given(CASES[name])
    losses = np.asarray(case.loss(*case.arrays.values()), np.float64)
    counted = np.ones(losses.shape)
    if case.out and "mask" in case.arrays:
        counted = np.asarray(case.arrays["mask"])
    for found in through_every_update(case):
        np.testing.assert_allclose(float(found), np.average(losses, weights=counted), rtol=1e-5)
    # A loss per token without a reduction, a loss per answer with one, a loss of something else
    # (whose columns may have other leading axes).
    with pytest.raises((ValueError, TypeError, AssertionError)):
        through_answers(case, reduction=None if case.out else token_mean)


@pytest.mark.long
def test_every_update_has_its_losses():
    fitted = {name: len(list(through_every_update(given(case)))) for name, case in CASES.items()}
    some = {"dpo": 2, "simpo": 2, "inpo": 1, "dapo": 1, "grpo": 1, "bradley_terry": 1, "hinge": 1}
    some |= {"pro": 1, "lipo": 1}
    assert {name: fitted[name] for name in some} == some


def dapo(reduction):
    """Answers of 4 tokens and of 1, advantages 1 and 2, at ratio 1: token losses -1 and -2."""
    logps, mask = jnp.full((2, 4), -0.7), jnp.arange(4) < jnp.array([[4], [1]])
    arrays = {"token_logps": logps, "old_token_logps": logps, "advantages": jnp.array([1.0, 2.0])}
    loss = partial(dapo_loss, clip_eps_low=0.2, clip_eps_high=0.2)
    return through_answers(Given(loss, arrays | {"mask": mask}, (4,)), reduction=reduction)


@pytest.mark.long
def test_a_token_mean_never_counts_padding():
    # (4 (-1) + 1 (-2)) / 5; a mean over all eight places would be -0.75
    np.testing.assert_allclose(float(dapo(token_mean)), -1.2, rtol=1e-6)


def test_a_loss_per_token_without_a_reduction_is_refused():
    with pytest.raises(ValueError, match=r"dapo_loss returned .*\[2, 4\]; .* per answer, \[2\]"):
        dapo(None)


@pytest.mark.long
@pytest.mark.parametrize("wrong", [lambda x: x[..., None] * jnp.ones(4), jnp.mean])
def test_every_update_refuses_losses_of_another_shape(wrong):
    x = jnp.zeros(3)
    pair = PreferenceBatch(one_step(x), one_step(x), x, x)
    both = online.PairBatch(pair.chosen, pair.rejected, {})
    answers = online.AnswerBatch(pair.chosen, {})
    for run in (
        partial(preference.make_objective(POLICY, lambda *logps: wrong(logps[0])), 0.0, pair),
        partial(reward_model.make_objective(REWARD, loss=lambda a, b: wrong(a)), 0.0, pair),
        partial(preference_model.make_objective(PREFERENCE, loss=wrong), 0.0, pair),
        partial(online.make_pair_objective(POLICY, lambda a, b: wrong(a)), 0.0, both),
        partial(online.make_answer_objective(POLICY, lambda a, mask: wrong(a)), 0.0, answers),
    ):
        with pytest.raises(ValueError, match="this update needs one loss per"):
            run()
