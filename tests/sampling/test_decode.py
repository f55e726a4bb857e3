"""Decoding: cache against no cache, and answers that depend only on their own counters."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from random_params import random_params

from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import LanguageDecoder, language_decoder, language_policy
from rlhf_jax.sampling.decode import SamplingConfig, sample, sample_many
from rlhf_jax.sampling.filters import processed_logits
from rlhf_jax.sampling.keys import draw_actions, row_keys

CONFIG = TransformerConfig(
    vocab_size=11, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=24
)
MODEL = make_transformer(CONFIG)
POLICY = language_policy(MODEL)
DECODER = language_decoder(MODEL)
P, T, ROWS = 5, 6, 8
KEY = jax.random.fold_in(jax.random.key(7), 3)
SAMPLED = SamplingConfig(max_new_tokens=T, stop_ids=(2, 9))
LOGPS, LOGITS = jax.jit(POLICY.logps), jax.jit(POLICY.logits)
PARAMS = random_params(POLICY.init, seed=5)  # both stop ids occur in what it says


def prompts(rows=ROWS):
    rng = np.random.default_rng(0)
    mask = np.arange(P) >= P - rng.integers(1, P + 1, rows)[:, None]
    return jnp.asarray(np.where(mask, rng.integers(1, 11, (rows, P)), 0)), jnp.asarray(mask)


@partial(jax.jit, static_argnums=0)
def run(config, params, ids, mask, prompt_indices, sample_indices):
    return sample(
        DECODER,
        params,
        ids,
        mask,
        KEY,
        config=config,
        prompt_indices=prompt_indices,
        sample_indices=sample_indices,
    )


def counters(rows=ROWS):
    return jnp.arange(rows) + 100, jnp.zeros(rows, jnp.int32)


def answers(config=SAMPLED):
    return run(config, PARAMS, *prompts(), *counters())


def without_cache(config):
    """Answers drawn with a whole forward pass per token, from the same keys."""
    ids, mask = (np.asarray(x) for x in prompts())
    keys = row_keys(KEY, *counters())
    rows = np.zeros((ROWS, T), np.int32)
    real = np.zeros((ROWS, T), bool)
    going = np.ones(ROWS, bool)
    for t in range(T):
        seen = jnp.asarray(np.concatenate([ids, rows], 1))
        shown = np.concatenate([mask, real], 1).astype(np.int32)
        positions = np.where(shown, np.cumsum(shown, 1) - 1, 0).astype(np.int32)
        hidden = HIDDEN(PARAMS, seen, positions, shown)
        logits = MODEL.unembed(PARAMS, hidden[:, P + t - 1])
        processed = processed_logits(
            logits, temperature=config.temperature, top_k=config.top_k, top_p=config.top_p
        )
        new = np.asarray(draw_actions(keys, t, processed))
        rows[:, t] = np.where(going, new, 0)
        real[:, t] = going
        going = going & ~np.isin(new, config.stop_ids)
    return rows, real, ~going


HIDDEN = jax.jit(MODEL.hidden)


@pytest.mark.long
@pytest.mark.parametrize(
    "config",
    [
        SAMPLED,
        SamplingConfig(max_new_tokens=T, temperature=0.0, stop_ids=(2,)),
        SamplingConfig(max_new_tokens=T, temperature=0.7, top_k=6, top_p=0.8, stop_ids=(2,)),
    ],
    ids=["sampled", "greedy", "filtered"],
)
def test_with_cache_equals_without_token_for_token(config):
    rollout = answers(config)
    rows, real, finished = without_cache(config)
    np.testing.assert_array_equal(rollout.trajectory.actions, rows)
    np.testing.assert_array_equal(rollout.trajectory.mask, real)
    np.testing.assert_array_equal(rollout.finished, finished)


@pytest.mark.long
def test_raw_logps_are_the_policys():
    config = SamplingConfig(max_new_tokens=T, temperature=0.7, top_k=5, stop_ids=(2, 9))
    rollout = answers(config)
    trajectory = rollout.trajectory
    want = LOGPS(PARAMS, trajectory.inputs, trajectory.actions)
    want = jnp.where(trajectory.mask, want, 0.0)
    np.testing.assert_allclose(rollout.token_logps, want, atol=1e-5)
    logits = LOGITS(PARAMS, trajectory.inputs)
    processed = processed_logits(logits, temperature=0.7, top_k=5, top_p=1.0)
    table = jax.nn.log_softmax(processed)
    want = jnp.take_along_axis(table, trajectory.actions[..., None], -1)[..., 0]
    want = jnp.where(trajectory.mask, want, 0.0)
    np.testing.assert_allclose(rollout.sampling_token_logps, want, atol=1e-5)
    assert np.max(np.abs(rollout.sampling_token_logps - rollout.token_logps)) > 0.1


@pytest.mark.long
def test_without_filters_both_logps_agree_and_greedy_is_certain():
    rollout = answers()
    np.testing.assert_allclose(rollout.token_logps, rollout.sampling_token_logps, atol=1e-6)
    greedy = answers(SamplingConfig(max_new_tokens=T, temperature=0.0, stop_ids=(2,)))
    np.testing.assert_array_equal(greedy.sampling_token_logps, np.zeros((ROWS, T)))
    assert np.all(np.where(greedy.trajectory.mask, greedy.token_logps, -1) < 0)


def test_stop_tokens_are_counted_and_nothing_after_them():
    rollout = answers()
    actions, mask = np.asarray(rollout.trajectory.actions), np.asarray(rollout.trajectory.mask)
    stops = np.isin(actions, SAMPLED.stop_ids) & mask
    assert {2, 9} <= set(actions[stops])
    np.testing.assert_array_equal(rollout.finished, stops.any(1))
    assert 0 < np.sum(rollout.finished) < ROWS
    for row in range(ROWS):
        length = stops[row].argmax() + 1 if stops[row].any() else T
        np.testing.assert_array_equal(mask[row], np.arange(T) < length)
        assert not actions[row, length:].any()
    assert not np.asarray(rollout.token_logps)[~mask].any()


def same(got, want):
    """Tokens, masks and flags equal; log-probs within 1e-5."""
    np.testing.assert_array_equal(got.trajectory.actions, want.trajectory.actions)
    np.testing.assert_array_equal(got.trajectory.mask, want.trajectory.mask)
    np.testing.assert_array_equal(got.finished, want.finished)
    np.testing.assert_allclose(got.token_logps, want.token_logps, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("splits", [1, 2, 4])
def test_answers_do_not_depend_on_the_batch_split(splits):
    rows = (*prompts(), *counters())
    size = ROWS // splits
    parts = [run(SAMPLED, PARAMS, *(x[i : i + size] for x in rows)) for i in range(0, ROWS, size)]
    same(jax.tree.map(lambda *x: jnp.concatenate(x), *parts), answers())


def test_answers_do_not_depend_on_the_order_of_the_batch():
    order = jnp.array([3, 1, 7, 0, 2, 6, 5, 4])
    rows = (*prompts(), *counters())
    got = run(SAMPLED, PARAMS, *(x[order] for x in rows))
    same(got, jax.tree.map(lambda x: x[order], answers()))


@pytest.mark.long
def test_answers_do_not_depend_on_left_padding():
    ids, mask = prompts()
    wide = (jnp.pad(ids, ((0, 0), (3, 0)), constant_values=4), jnp.pad(mask, ((0, 0), (3, 0))))
    same(run(SAMPLED, PARAMS, *wide, *counters()), answers())


@pytest.mark.parametrize("side", ["right", "scattered"])
def test_the_padding_of_a_prompt_may_lie_anywhere(side):
    ids, mask = (np.asarray(x) for x in prompts())
    real = np.flip(mask, 1)
    if side == "scattered":
        real = np.random.default_rng(1).permuted(mask, axis=1)
        assert not np.array_equal(np.sort(real, axis=1), real)
    moved = np.full_like(ids, 4)
    moved[real] = ids[mask]  # both walk the rows in order
    got = run(SAMPLED, PARAMS, jnp.asarray(moved), jnp.asarray(real), *counters())
    same(got, answers())
    np.testing.assert_array_equal(got.trajectory.inputs.segments[:, :P] > 0, mask)


@pytest.mark.long
def test_prompts_of_one_token():
    ids, mask = prompts()
    narrow = run(SAMPLED, PARAMS, ids[:, -1:], mask[:, -1:], *counters())
    only_last = mask & (jnp.arange(P) == P - 1)
    same(narrow, run(SAMPLED, PARAMS, ids, only_last, *counters()))


@pytest.mark.long
def test_eight_devices_draw_what_one_draws():
    assert len(jax.devices()) == 8
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split, whole = (NamedSharding(mesh, s) for s in (PartitionSpec("data"), PartitionSpec()))
    rows = jax.device_put((*prompts(), *counters()), split)
    got = run(SAMPLED, jax.device_put(PARAMS, whole), *rows)
    assert len(got.finished.sharding.device_set) == 8
    same(got, answers())


@pytest.fixture(scope="module")
def four_answers():
    ids, mask = prompts()
    indices = jnp.broadcast_to(jnp.arange(4), (ROWS, 4))
    many = jax.jit(partial(sample_many, DECODER, config=SAMPLED))
    return many(PARAMS, ids, mask, KEY, prompt_indices=counters()[0], sample_indices=indices)


def test_several_answers_per_prompt(four_answers):
    assert four_answers.trajectory.actions.shape == (ROWS, 4, T)
    assert four_answers.trajectory.inputs.ids.shape == (ROWS, 4, P + T)
    same(jax.tree.map(lambda x: x[:, 0], four_answers), answers())
    one = run(SAMPLED, PARAMS, *prompts(), counters()[0], jnp.full(ROWS, 3))
    same(jax.tree.map(lambda x: x[:, 3], four_answers), one)
    actions = np.asarray(four_answers.trajectory.actions)
    assert len(np.unique(actions.reshape(-1, T), axis=0)) > 2 * ROWS


def test_answers_form_a_trajectory_of_the_policy(four_answers):
    trajectory = four_answers.trajectory
    want = jnp.where(trajectory.mask, LOGPS(PARAMS, trajectory.inputs, trajectory.actions), 0.0)
    np.testing.assert_allclose(four_answers.token_logps, want, atol=1e-5)


def counting_decoder(log):
    """Every row says 1, 1, ... and then 2 at its position; counts the steps taken."""

    def prefill(params, ids, mask, length):
        return ()

    def step(params, cache, ids, positions):
        jax.debug.callback(lambda: log.append(1))
        stop = positions >= params
        return jnp.where(jnp.arange(3) == jnp.where(stop, 2, 1)[:, None], 9.0, 0.0), cache

    return LanguageDecoder(lambda params: params, prefill, step)


@pytest.mark.long
def test_the_loop_ends_with_the_last_row():
    log = []
    config = SamplingConfig(max_new_tokens=50, temperature=0.0, stop_ids=(2,), pad_id=7)
    rollout = sample(
        counting_decoder(log),
        jnp.array([2, 4]),
        jnp.ones((2, 1), jnp.int32),
        jnp.ones((2, 1), bool),
        KEY,
        config=config,
        prompt_indices=jnp.arange(2),
        sample_indices=jnp.arange(2),
    )
    jax.effects_barrier()
    assert len(log) == 5
    np.testing.assert_array_equal(rollout.trajectory.mask.sum(1), [3, 5])
    np.testing.assert_array_equal(rollout.trajectory.actions[0, :5], [1, 1, 2, 7, 7])
    assert np.all(rollout.finished)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 0}, r"max_new_tokens must be in \[1, inf\)"),
        ({"temperature": -0.5}, r"temperature must be in \[0, inf\)"),
        ({"top_k": -1}, r"top_k must be in \[0, inf\)"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\]"),
        ({"temperature": float("nan")}, "temperature must be in"),
        ({"rows": 0}, r"rows must be in \[1, inf\)"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\]"),
    ],
)
def test_bad_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SAMPLED, **change)


@pytest.mark.long
def test_a_bfloat16_model_has_a_bfloat16_cache_and_nearly_the_same_log_probs():
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    decoder = language_decoder(make_transformer(config))
    narrow = jax.jit(partial(sample, decoder, config=SAMPLED))(
        PARAMS, *prompts(), KEY, prompt_indices=counters()[0], sample_indices=counters()[1]
    )
    shapes = jax.eval_shape(
        lambda params: decoder.prefill(decoder.read(params), *prompts(), 9), PARAMS
    )
    assert {x.dtype for x in jax.tree.leaves(shapes.layers)} == {jnp.dtype("bfloat16")}
    trajectory = narrow.trajectory
    wide = jnp.where(trajectory.mask, LOGPS(PARAMS, trajectory.inputs, trajectory.actions), 0.0)
    np.testing.assert_allclose(narrow.token_logps, wide, atol=0.1)


@pytest.mark.long
def test_one_program_for_each_length_of_prompts():
    lengths = []

    def prefill(weights, ids, *rest):
        lengths.append(ids.shape[1])
        return DECODER.prefill(weights, ids, *rest)

    draw = jax.jit(partial(sample, DECODER._replace(prefill=prefill), config=SAMPLED))
    ids, mask = prompts()
    for seed, columns in enumerate((P, P, 2, P, 2)):
        draw(
            random_params(POLICY.init, seed=seed),
            *(ids[:, -columns:], mask[:, -columns:]),
            jax.random.key(seed),
            prompt_indices=counters()[0] + seed,
            sample_indices=counters()[1],
        )
    assert lengths == [P, 2]
