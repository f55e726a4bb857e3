"""The layout certificate: right objectives hold, and each wrong one is caught where it is wrong."""

import re
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax import PreferenceBatch, Trajectory, dpo_loss, ipo_loss
from rlhf_jax.algos import ppo, preference, reward_model, sft
from rlhf_jax.certify import LAYOUTS, certify
from rlhf_jax.losses.preference import simpo_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.ops.logprobs import mean_logps
from rlhf_jax.ops.masking import Mean, masked_sum, token_weights, weighted_mean
from rlhf_jax.policies.language import LanguageInputs, language_policy, language_trajectory
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward, tabular_value

STATES, ACTIONS, ROWS, STEPS = 3, 4, 8, 4
POLICY = tabular_policy(STATES, ACTIONS)
LENGTHS = np.array([1, 2, 1, 1, 4, 3, 4, 2])
RNG = np.random.default_rng(0)
MODEL = make_transformer(
    TransformerConfig(
        vocab_size=11, d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8
    )
)
EVERY = {"micro-batches", "gradient accumulation", *LAYOUTS}
LANGUAGE_POLICY = language_policy(MODEL)
LANGUAGE = random_params(MODEL.init)


def only(*names):
    """Arguments of `certify` for these layouts and no other."""
    return {"skip": dict.fromkeys(EVERY - set(names), "not asked for"), "meshes": ()}


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def steps(lengths=LENGTHS):
    states, actions = (RNG.integers(0, n, (ROWS, STEPS)) for n in (STATES, ACTIONS))
    return Trajectory(
        jnp.asarray(states), jnp.asarray(actions), jnp.arange(STEPS) < lengths[:, None]
    )


def completions():
    """Prompts of 1 to 3 tokens padded left, completions padded right."""
    prompt_mask = np.arange(3) >= RNG.integers(0, 3, ROWS)[:, None]
    prompt, ids = (jnp.asarray(RNG.integers(1, 11, (ROWS, n))) for n in (3, STEPS))
    return language_trajectory(
        prompt, jnp.asarray(prompt_mask), ids, jnp.arange(STEPS) < LENGTHS[:, None]
    )


def documents():
    """Whole rows as actions, the first token uncounted: T = L."""
    real = np.arange(5) < 1 + LENGTHS[:, None]
    ids = jnp.asarray(np.where(real, RNG.integers(1, 11, real.shape), 0))
    positions, segments = jnp.where(real, jnp.arange(5), 0), jnp.asarray(real, jnp.int32)
    inputs = LanguageInputs(ids, positions, segments, completion_length=5)
    return Trajectory(inputs, ids, jnp.asarray(real & (np.arange(5) > 0)))


def pairs():
    weights = jnp.asarray([1.0, 0.5, 2.0, 1.0, 0.0, 1.0, 3.0, 1.0])
    return PreferenceBatch(steps(), steps(LENGTHS[::-1]), normal(ROWS), normal(ROWS), weights)


def rollout():
    return ppo.PPOBatch(steps(), *(normal(ROWS, STEPS) for _ in range(4)))


TABLE = normal(STATES, ACTIONS)
ACTOR_CRITIC = ppo.ActorCritic(TABLE, normal(STATES))
SIMPO = partial(simpo_loss, beta=2.0, gamma=0.5)
PAIR_LOSS = partial(preference.make_objective, POLICY)


def ppo_objective(**settings):
    config = ppo.PPOConfig(value_coef=0.5, **settings)
    return ppo.make_objective(POLICY, tabular_value(STATES), config)


class Case(NamedTuple):
    """An objective, where to evaluate it, and the layouts that do not apply, with why."""

    objective: Any
    batch: Any
    params: Any
    not_applicable: dict[str, str]


NO_WEIGHTS = {"rows of weight zero": "no weights"}
TWO_SUMS = {"packing": "2 trajectories"}
LANGUAGE_SFT = sft.make_objective(LANGUAGE_POLICY)
LANGUAGE_DPO = preference.make_objective(LANGUAGE_POLICY, partial(dpo_loss, beta=0.3))
CASES = {
    "sft": Case(sft.make_objective(POLICY), steps(), TABLE, NO_WEIGHTS),
    "sft of completions": Case(LANGUAGE_SFT, completions(), LANGUAGE, NO_WEIGHTS),
    "sft of documents": Case(LANGUAGE_SFT, documents(), LANGUAGE, NO_WEIGHTS),
    "reward model": Case(
        reward_model.make_objective(tabular_reward(STATES, ACTIONS)), pairs(), TABLE, TWO_SUMS
    ),
    "dpo": Case(PAIR_LOSS(partial(dpo_loss, beta=0.3)), pairs(), TABLE, TWO_SUMS),
    "dpo of completions": Case(
        LANGUAGE_DPO,
        replace(pairs(), chosen=completions(), rejected=completions()),
        LANGUAGE,
        TWO_SUMS,
    ),
    "ipo": Case(PAIR_LOSS(partial(ipo_loss, beta=0.3), logps=mean_logps), pairs(), TABLE, TWO_SUMS),
    "simpo": Case(PAIR_LOSS(SIMPO, logps=mean_logps, reference=False), pairs(), TABLE, TWO_SUMS),
    "ppo": Case(ppo_objective(whiten_advantages=False), rollout(), ACTOR_CRITIC, NO_WEIGHTS),
    "weighted ppo": Case(
        ppo_objective(whiten_advantages=False),
        replace(rollout(), weights=jnp.ones(ROWS)),
        ACTOR_CRITIC,
        {"packing": r"batch\.weights has one entry per row"},
    ),
}


SLOW = {"dpo of completions"}  # two forward passes to compile for each layout
EACH = [
    pytest.param(case, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
    for name, case in CASES.items()
]


@pytest.mark.long
@pytest.mark.parametrize("case", EACH)
def test_every_objective_holds_under_every_layout_that_applies(case):
    certificate = certify(case.objective, case.batch, params=case.params)
    assert certificate.holds
    assert certificate.worst <= 1e-5
    assert certificate.not_applicable.keys() == case.not_applicable.keys()
    for name, reason in case.not_applicable.items():
        assert re.search(reason, certificate.not_applicable[name])
    meshes = {"mesh 8x1", "mesh 4x2"}
    assert certificate.deviations.keys() == (EVERY | meshes) - case.not_applicable.keys()


# Objectives that are wrong under some layout.


def token_losses(params, batch):
    return -POLICY.logps(params, batch.inputs, batch.actions)


def mean_of_its_tokens(params, batch):
    """A scalar, divided by the tokens of the batch it is given."""
    return masked_sum(token_losses(params, batch), batch.mask) / jnp.sum(batch.mask)


def reads_under_the_mask(params, batch):
    """The right sum divided by all steps there are."""
    weights = token_weights(batch.mask)
    return Mean(weighted_mean(token_losses(params, batch), weights).total, jnp.sum(weights + 1.0))


def counts_from_the_left(params, batch):
    """Lengths instead of the mask: right as long as padding is on the right."""
    lengths = jnp.sum(batch.mask, axis=-1, keepdims=True)
    counted = jnp.arange(batch.mask.shape[-1]) < lengths
    return weighted_mean(token_losses(params, batch), token_weights(counted))


def centred_by_its_batch(params, batch):
    """A baseline taken over the rows it is given."""
    logps = -masked_sum(token_losses(params, batch), batch.mask, axis=-1)
    scores = jnp.sum(batch.inputs * batch.mask, axis=-1).astype(jnp.float32)
    return weighted_mean(-(scores - jnp.mean(scores)) * logps)


def ordered(params, batch):
    """Rows count by their place in the batch."""
    losses = masked_sum(token_losses(params, batch), batch.mask, axis=-1)
    return weighted_mean(losses * jnp.arange(len(losses)))


def masks_by_its_ids(params, batch):
    """Counts every action but the largest, which is end of sequence and padding in one."""
    weights = token_weights(batch.actions != ACTIONS - 1)
    return weighted_mean(token_losses(params, batch), weights)


def divides_by_rounded_steps(params, batch):
    """Lengths as the accelerator likes them: a multiple of 8."""
    rows, length = batch.mask.shape
    total = masked_sum(token_losses(params, batch), batch.mask)
    return Mean(total, jnp.asarray(rows * -(-length // 8) * 8, jnp.float32))


def row_means(params, batch):
    """Mean over the rows of each row's mean; 0 / 0 where no step counts."""
    steps = batch.trajectory
    sums = masked_sum(token_losses(params.policy, steps), steps.mask, axis=-1)
    means = sums / jnp.sum(steps.mask, axis=-1)
    return Mean(jnp.sum(means * batch.weights), jnp.sum(batch.weights))


def differing(certificate, threshold=1e-2):
    return {name for name, each in certificate.deviations.items() if max(each) > threshold}


SPLITS = {"micro-batches", "unequal micro-batches", "gradient accumulation"}


@pytest.mark.long
def test_a_mean_over_each_micro_batch_is_caught():
    """Its own whole-batch value is right, so nothing but splitting the batch shows it."""
    batch = steps()
    certificate = certify(mean_of_its_tokens, batch, params=TABLE)
    assert not certificate.holds
    assert differing(certificate) == SPLITS
    assert all(min(certificate.deviations[name]) > 1e-2 for name in SPLITS)
    whole = certificate.deviations.keys() - SPLITS
    assert {"row order", "padding", "packing", "mesh 8x1"} <= whole
    assert all(max(certificate.deviations[name]) <= 1e-5 for name in whole)
    right = sft.make_objective(POLICY)(TABLE, batch)[0].value()
    np.testing.assert_allclose(mean_of_its_tokens(TABLE, batch), right, rtol=1e-6)


def test_a_read_under_the_mask_is_caught_by_padding():
    arguments = only("padding", "row order", "micro-batches")
    certificate = certify(reads_under_the_mask, steps(), params=TABLE, **arguments)
    assert differing(certificate) == {"padding"}


def test_nan_under_the_mask_is_caught_by_padding():
    def masked_after(params, batch):
        """The value is right; the gradient has 0 times NaN."""
        losses = batch.advantages * token_losses(params.policy, batch.trajectory)
        counted = batch.trajectory.mask
        return Mean(masked_sum(losses, counted), jnp.sum(counted, dtype=jnp.float32))

    arguments = only("padding", "row order")
    certificate = certify(masked_after, rollout(), params=ACTOR_CRITIC, **arguments)
    assert certificate.deviations["padding"].value <= 1e-5
    assert certificate.deviations["padding"].gradient == np.inf
    assert differing(certificate) == {"padding"}


def test_lengths_instead_of_a_mask_are_caught_by_the_padding_side():
    arguments = only("padding", "padding side", "row order")
    certificate = certify(counts_from_the_left, steps(), params=TABLE, **arguments)
    assert differing(certificate) == {"padding side"}


def test_a_statistic_of_the_batch_is_caught_by_micro_batches():
    arguments = only("micro-batches", "unequal micro-batches", "row order", "padding")
    certificate = certify(centred_by_its_batch, steps(), params=TABLE, **arguments)
    assert differing(certificate) == {"micro-batches", "unequal micro-batches"}


@pytest.mark.long
def test_whitening_inside_the_objective_is_reported():
    arguments = only(*SPLITS, "row order", "padding", "padding side", "packing")
    objective = ppo_objective(whiten_advantages=True)
    certificate = certify(objective, rollout(), params=ACTOR_CRITIC, **arguments)
    assert differing(certificate, 1e-4) == SPLITS
    assert certificate.worst > 1e-3
    assert certificate.worst_layout in SPLITS


def test_a_place_in_the_batch_is_caught_by_row_order():
    certificate = certify(ordered, steps(), params=TABLE, **only("row order", "padding"))
    assert differing(certificate) == {"row order"}


@pytest.mark.long
@pytest.mark.parametrize("batch", [completions(), documents()], ids=["completions", "documents"])
def test_a_policy_that_ignores_segments_is_caught_by_packing(batch):
    """Documents then see one another."""

    def one_segment(inputs):
        return replace(inputs, segments=jnp.ones_like(inputs.segments))

    def logps(params, inputs, actions):
        return LANGUAGE_POLICY.logps(params, one_segment(inputs), actions)

    blind = LANGUAGE_POLICY._replace(logps=logps)
    # Rows that are all real, where one segment is the truth.
    full = np.ones_like(batch.inputs.segments)
    positions = np.broadcast_to(np.arange(full.shape[1]), full.shape)
    inputs = replace(batch.inputs, segments=full, positions=positions)
    batch = replace(batch, inputs=inputs)
    arguments = only("packing", "row order")
    certificate = certify(sft.make_objective(blind), batch, params=LANGUAGE, **arguments)
    assert differing(certificate) == {"packing"}
    assert certify(LANGUAGE_SFT, batch, params=LANGUAGE, **only("packing")).holds


def test_weights_that_do_not_keep_nan_out_are_caught():
    def weighed_after(params, batch):
        chosen = preference.trajectory_logps(POLICY, params, batch.chosen)
        losses = batch.ref_chosen_logps - chosen
        return Mean(jnp.sum(losses * batch.weights), jnp.sum(batch.weights))

    arguments = only("rows of weight zero", "row order")
    certificate = certify(weighed_after, pairs(), params=TABLE, **arguments)
    assert differing(certificate) == {"rows of weight zero"}


def test_a_mask_made_from_ids_is_caught_by_the_least_junk():
    """Padding holds the largest id, so what is counted is right until other junk lies there."""
    batch = steps()
    batch = replace(batch, actions=jnp.where(batch.mask, batch.actions % 3, ACTIONS - 1))
    certificate = certify(masks_by_its_ids, batch, params=TABLE, **only("padding", "wide padding"))
    assert differing(certificate) == {"wide padding"}


def test_a_length_rounded_up_is_caught_by_wide_padding():
    arguments = only("padding", "wide padding", "padding side", "row order")
    certificate = certify(divides_by_rounded_steps, steps(), params=TABLE, **arguments)
    assert differing(certificate) == {"wide padding"}


def test_a_mean_over_an_empty_row_is_caught():
    batch = replace(rollout(), weights=jnp.ones(ROWS))
    arguments = only("rows of weight zero", "row order")
    certificate = certify(row_means, batch, params=ACTOR_CRITIC, **arguments)
    assert certificate.deviations["rows of weight zero"].value == np.inf
    assert differing(certificate) == {"rows of weight zero"}
