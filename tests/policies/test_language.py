"""The language policy: shift, padding, packing, chunking, and the heads on the same rows."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.models import (
    TransformerConfig,
    make_reward_model,
    make_scalar_model,
    make_transformer,
    make_value_model,
)
from rlhf_jax.policies.language import (
    LanguageInputs,
    language_inputs,
    language_policy,
    language_reward,
    language_trajectory,
    language_value,
)
from rlhf_jax.sharding import make_mesh, split_batch

tiny = partial(
    TransformerConfig, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=24
)
CONFIG = tiny(vocab_size=11)
MODEL = make_transformer(CONFIG)
POLICY = language_policy(MODEL)
PARAMS = random_params(POLICY.init)
LOGPS, LOGITS = jax.jit(POLICY.logps), jax.jit(POLICY.logits)
P, T = 5, 4


def batch(rows=4, seed=0):
    """Prompts of 1 .. P tokens padded left, completions of 1 .. T tokens padded right."""
    rng = np.random.default_rng(seed)
    prompt_lengths = rng.integers(1, P + 1, rows)
    lengths = rng.integers(1, T + 1, rows)
    prompt_mask = np.arange(P) >= P - prompt_lengths[:, None]
    mask = np.arange(T) < lengths[:, None]
    prompts = np.where(prompt_mask, rng.integers(1, 11, (rows, P)), 0)
    completions = np.where(mask, rng.integers(1, 11, (rows, T)), 0)
    return tuple(jnp.asarray(x) for x in (prompts, prompt_mask, completions, mask))


def logps_of(parts, params=PARAMS):
    trajectory = language_trajectory(*parts)
    out = LOGPS(params, trajectory.inputs, trajectory.actions)
    return jnp.where(trajectory.mask, out, 0.0)


def test_rows_are_joined_with_positions_over_real_tokens():
    prompt = jnp.array([[0, 0, 7, 8]])
    done = jnp.array([[5, 2, 0]])
    inputs = language_inputs(prompt, prompt > 0, done, done > 0)
    np.testing.assert_array_equal(inputs.ids, [[0, 0, 7, 8, 5, 2, 0]])
    np.testing.assert_array_equal(inputs.positions, [[0, 0, 0, 1, 2, 3, 0]])
    np.testing.assert_array_equal(inputs.segments, [[0, 0, 1, 1, 1, 1, 0]])
    assert inputs.completion_length == 3
    assert inputs.ids.dtype == inputs.positions.dtype == inputs.segments.dtype == jnp.int32


@pytest.mark.long
def test_logps_are_the_shifted_log_softmax_of_a_bare_row():
    """Each row alone, without padding, one token of context at a time."""
    prompts, prompt_mask, completions, mask = batch()
    got = logps_of((prompts, prompt_mask, completions, mask))
    for b in range(2):
        row = np.concatenate([prompts[b][prompt_mask[b]], completions[b][mask[b]]])
        length = len(row)
        ids, positions = jnp.asarray(row)[None], jnp.arange(length)[None]
        hidden = jax.jit(MODEL.hidden)(PARAMS, ids, positions, jnp.ones((1, length), jnp.int32))
        table = jax.nn.log_softmax(MODEL.unembed(PARAMS, hidden)[0])
        first = int(prompt_mask[b].sum())
        want = [table[i - 1, row[i]] for i in range(first, length)]
        np.testing.assert_allclose(got[b][np.asarray(mask[b])], jnp.stack(want), atol=1e-5)
    assert np.std(np.asarray(got)[np.asarray(mask)]) > 0.5  # not a uniform policy


def test_logits_agree_with_logps():
    trajectory = language_trajectory(*batch())
    logits = LOGITS(PARAMS, trajectory.inputs)
    assert logits.shape == (4, T, 11)
    assert logits.dtype == jnp.float32
    table = jax.nn.log_softmax(logits)
    want = jnp.take_along_axis(table, trajectory.actions[..., None], -1)[..., 0]
    got = LOGPS(PARAMS, trajectory.inputs, trajectory.actions)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("extra", [1, 6])
def test_left_padding_never_changes_a_logp(extra):
    prompts, prompt_mask, completions, mask = batch()
    wider = (
        jnp.pad(prompts, ((0, 0), (extra, 0)), constant_values=3),
        jnp.pad(prompt_mask, ((0, 0), (extra, 0))),
    )
    want = logps_of((prompts, prompt_mask, completions, mask))
    np.testing.assert_allclose(logps_of((*wider, completions, mask)), want, atol=1e-5)


def test_right_padding_never_changes_a_logp():
    prompts, prompt_mask, completions, mask = batch()
    longer = [jnp.pad(x, ((0, 0), (0, 3))) for x in (completions, mask)]
    want = logps_of((prompts, prompt_mask, completions, mask))
    got = logps_of((prompts, prompt_mask, *longer))
    np.testing.assert_allclose(got[:, :T], want, atol=1e-5)


def test_ids_of_padding_never_matter_and_a_token_out_of_the_vocabulary_is_nan():
    """It is not read as the last token of the vocabulary."""
    prompts, prompt_mask, completions, mask = batch()
    want = logps_of((prompts, prompt_mask, completions, mask))
    junk = jnp.where(prompt_mask, prompts, 10**6), jnp.where(mask, completions, -5)
    np.testing.assert_array_equal(logps_of((junk[0], prompt_mask, junk[1], mask)), want)
    for unknown in (11, -1):
        got = logps_of((prompts, prompt_mask, completions.at[0, 0].set(unknown), mask))
        assert np.isnan(got[0, 0])
        np.testing.assert_array_equal(got[1:], want[1:])


def test_masks_of_integers_are_refused_by_name():
    """An attention mask of 0 and 1 would pass, labels of -100 in its place would all count."""
    prompts, prompt_mask, completions, mask = batch()
    jaxtyping.config.update("jaxtyping_disable", True)  # users have no type checker
    try:
        with pytest.raises(TypeError, match=r"completion_mask must be bool.* got int32"):
            language_trajectory(prompts, prompt_mask, completions, jnp.where(mask, 1, -100))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.long
def test_batch_order_and_size_never_change_a_logp():
    parts = batch()
    want = logps_of(parts)
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(logps_of([x[order] for x in parts]), want[order], atol=1e-5)
    for rows in (1, 2):
        got = jnp.concatenate(
            [logps_of([x[i : i + rows] for x in parts]) for i in range(0, 4, rows)]
        )
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.long
def test_leading_axes_are_free():
    parts = batch()
    want = logps_of(parts)
    shaped = [x.reshape(2, 2, -1) for x in parts]
    np.testing.assert_allclose(logps_of(shaped).reshape(4, T), want, atol=1e-5)
    inputs = language_inputs(*shaped)
    np.testing.assert_allclose(
        LOGITS(PARAMS, inputs).reshape(4, T, 11),
        LOGITS(PARAMS, language_inputs(*parts)),
        atol=1e-5,
    )
    single = [x[0] for x in parts]
    np.testing.assert_allclose(logps_of(single), want[0], atol=1e-5)
    mapped = jax.vmap(lambda *row: logps_of(row))(*parts)
    np.testing.assert_allclose(mapped, want, atol=1e-5)


def spread(ids, mask, width, place):
    """The real tokens of each row, in order, at other columns of a wider row; padding has id 3."""
    wide, real = np.full((len(ids), width), 3), np.zeros((len(ids), width), bool)
    for b in range(len(ids)):
        row = np.asarray(ids[b])[np.asarray(mask[b])]
        columns = place(width, len(row), b)
        wide[b, columns], real[b, columns] = row, True
    return jnp.asarray(wide), jnp.asarray(real)


def left(width, count, _):
    return np.arange(width - count, width)


def right(width, count, _):
    return np.arange(count)


def scattered(width, count, b):
    return np.sort(np.random.default_rng(b).choice(width, count, replace=False))


@pytest.mark.long
@pytest.mark.parametrize(
    ("prompt_side", "answer_side"),
    [(right, right), (left, left), (right, left), (scattered, scattered)],
)
def test_where_the_padding_lies_never_changes_a_logp_value_or_score(prompt_side, answer_side):
    model = make_scalar_model(CONFIG, head_std=1.0)
    value_of, score_of = (jax.jit(f) for f in (language_value(model)[1], language_reward(model)[1]))
    scalar_params = random_params(model.init, seed=3)

    def counted(parts):
        trajectory, mask = language_trajectory(*parts), np.asarray(parts[3])
        values = np.asarray(value_of(scalar_params, trajectory.inputs))
        return logps_of(parts)[mask], values[mask], score_of(scalar_params, trajectory)

    parts = batch()
    moved = (*spread(*parts[:2], P + 3, prompt_side), *spread(*parts[2:], T + 3, answer_side))
    for got, want in zip(counted(moved), counted(parts), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_tokens_of_a_tool_are_read_and_do_not_count():
    prompts, prompt_mask, completions, _ = batch()
    every = jnp.ones_like(completions, bool)
    own = every.at[:, 1:3].set(False)  # one token, two of a tool, one token
    trajectory = language_trajectory(prompts, prompt_mask, completions, own, every)
    np.testing.assert_array_equal(trajectory.mask, own)
    np.testing.assert_array_equal(trajectory.valid, every)
    got = LOGPS(PARAMS, trajectory.inputs, trajectory.actions)
    want = logps_of((prompts, prompt_mask, completions, every))
    np.testing.assert_allclose(got[own], want[own], atol=1e-6)
    unread = logps_of((prompts, prompt_mask, completions, own))
    assert np.max(np.abs(unread - want)[:, 3]) > 0.1


def test_a_token_that_counts_is_valid():
    prompts, prompt_mask, completions, mask = batch()
    nothing = jnp.zeros_like(mask)
    trajectory = language_trajectory(prompts, prompt_mask, completions, mask, nothing)
    np.testing.assert_array_equal(trajectory.valid, mask)
    np.testing.assert_array_equal(trajectory.inputs.segments[:, P:], mask)
    assert language_trajectory(prompts, prompt_mask, completions, mask).valid is None


def packed(rows):
    """Documents laid one after another in a single row, two padding tokens at its end."""
    ids = np.concatenate([*rows, [0, 0]])
    positions = np.concatenate([*(np.arange(len(r)) for r in rows), [0, 0]])
    segments = np.concatenate([*(np.full(len(r), i + 1) for i, r in enumerate(rows)), [0, 0]])
    parts = (jnp.asarray(x, jnp.int32)[None] for x in (ids, positions, segments))
    return LanguageInputs(*parts, completion_length=len(ids))


@pytest.mark.long
def test_packed_documents_have_their_own_logps():
    """Of its first token, which nothing precedes, each guesses uniformly."""
    rows = [np.array([1, 4, 9, 2]), np.array([7, 7, 3]), np.array([5, 8, 6, 1, 2])]
    inputs = packed(rows)
    got = LOGPS(PARAMS, inputs, inputs.ids)[0]
    start = 0
    for row in rows:
        alone = packed([row])
        want = LOGPS(PARAMS, alone, alone.ids)[0, : len(row)]
        np.testing.assert_allclose(want[0], -np.log(11), atol=1e-6)
        np.testing.assert_allclose(got[start : start + len(row)], want, atol=1e-5)
        start += len(row)


def test_a_row_as_completion_has_the_logps_of_one_with_a_prompt():
    inputs = packed([np.array([1, 4, 9, 2])])
    shorter = LanguageInputs(inputs.ids, inputs.positions, inputs.segments, completion_length=5)
    want = LOGPS(PARAMS, shorter, inputs.ids[:, 1:])
    np.testing.assert_allclose(LOGPS(PARAMS, inputs, inputs.ids)[:, 1:], want, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("tied", [True, False])
def test_chunked_logps_equal_dense_ones_with_gradients(chunk, tied):
    model = make_transformer(tiny(vocab_size=11, tied_embeddings=tied))
    params = random_params(model.init, seed=1)
    shaped = [x.reshape(2, 2, -1) for x in batch()]
    trajectory = language_trajectory(*shaped)
    weights = jax.random.normal(jax.random.key(2), trajectory.actions.shape)

    def loss(params, policy):
        logps = policy.logps(params, trajectory.inputs, trajectory.actions)
        return jnp.sum(jnp.where(trajectory.mask, logps * weights, 0.0)), logps

    def run(policy):
        return jax.jit(lambda p: jax.value_and_grad(loss, has_aux=True)(p, policy))(params)

    (_, want), want_grad = run(language_policy(model))
    (_, got), got_grad = run(language_policy(model, chunk=chunk))
    np.testing.assert_allclose(got, want, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got_grad, want_grad)


@pytest.mark.long
def test_chunked_logps_never_hold_the_whole_logits():
    """No float array in the differentiated program has T x V elements per row."""
    length, vocab = 64, 97
    model = make_transformer(tiny(vocab_size=vocab))
    policy = language_policy(model, chunk=8)
    ids = jnp.ones((1, length), jnp.int32)
    inputs = LanguageInputs(ids, ids, ids, completion_length=length)
    params = jax.jit(model.init)(jax.random.key(0))
    program = jax.jit(jax.grad(lambda p: policy.logps(p, inputs, ids).sum()))
    text = program.lower(params).compile().as_text() or ""
    assert f"f32[1,8,{vocab}]" in text or f"f32[8,{vocab}]" in text
    assert f"{length},{vocab}]" not in text


@pytest.mark.long
@pytest.mark.parametrize("ways", [{"fsdp": 8}, {"fsdp": 4, "sequence": 2}])
def test_devices_keep_the_hidden_states_of_their_rows(ways):
    """Chunks of 8 tokens on each of 8 devices; those of all rows, 16 x 6 tokens, are nowhere."""
    mesh = make_mesh(**ways)
    model, split = (
        make_transformer(tiny(vocab_size=16)),
        make_transformer(tiny(vocab_size=16), mesh),
    )
    params = random_params(model.init)
    ids = jax.random.randint(jax.random.key(1), (16, 8), 0, 16)
    mask = jnp.ones((16, 8), bool)
    rows = split_batch(language_trajectory(ids[:, :2], mask[:, :2], ids[:, 2:], mask[:, 2:]), mesh)

    def total(params, rows, model):
        policy = language_policy(model, chunk=8)
        return jnp.sum(jnp.sin(policy.logps(params, rows.inputs, rows.actions)))

    want = jax.jit(jax.grad(partial(total, model=model)))(params, rows)
    run = jax.jit(jax.grad(partial(total, model=split)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), run(params, rows), want)
    text = run.lower(params, rows).compile().as_text() or ""
    assert f"[16,6,{model.config.d_model}]" not in text
    assert f"[16,8,{model.config.d_model}]" not in text


def test_bad_chunk_is_refused():
    with pytest.raises(ValueError, match="chunk must be in"):
        language_policy(MODEL, chunk=0)


@pytest.mark.long
def test_values_and_scores_read_the_same_scalars():
    model = make_scalar_model(CONFIG, head_std=1.0)
    params = random_params(model.init, seed=3)
    parts = batch()
    trajectory = language_trajectory(*parts)
    inputs = trajectory.inputs
    scalars = jax.jit(model.scalars)(params, inputs.ids, inputs.positions, inputs.segments)
    value_of = jax.jit(language_value(model).values)
    score_of = jax.jit(language_reward(model).scores)
    values = value_of(params, inputs)
    before = jnp.where(trajectory.mask, scalars[:, P - 1 : -1], 0.0)
    np.testing.assert_allclose(values, before, atol=1e-6)
    scores = score_of(params, trajectory)
    last = P - 1 + np.asarray(parts[3]).sum(-1)
    np.testing.assert_allclose(scores, scalars[np.arange(4), last], atol=1e-6)
    wider = [jnp.pad(x, ((0, 0), (4, 0))) for x in parts[:2]]
    wide = language_trajectory(*wider, *parts[2:])
    np.testing.assert_allclose(score_of(params, wide), scores, atol=1e-5)
    np.testing.assert_allclose(
        jnp.where(wide.mask, value_of(params, wide.inputs), 0),
        jnp.where(wide.mask, values, 0),
        atol=1e-5,
    )


@pytest.mark.long
def test_fresh_heads():
    trajectory = language_trajectory(*batch())
    value, reward = make_value_model(CONFIG), make_reward_model(CONFIG)
    critic, judge = language_value(value), language_reward(reward)
    values = jax.jit(critic.values)(jax.jit(critic.init)(jax.random.key(0)), trajectory.inputs)
    np.testing.assert_array_equal(values, np.zeros((4, T)))
    scores = jax.jit(judge.scores)(jax.jit(judge.init)(jax.random.key(0)), trajectory)
    assert scores.dtype == jnp.float32
    assert 0 < np.std(scores) < 1
    trunk = jax.tree.structure(PARAMS["trunk"])
    assert jax.tree.structure(jax.eval_shape(value.init, jax.random.key(0))["trunk"]) == trunk


def test_inputs_are_a_pytree_of_anything():
    """JAX rebuilds them around shapes, NumPy arrays and batch axes."""
    inputs = language_inputs(*batch())
    assert jax.eval_shape(lambda: inputs).ids.shape == (4, P + T)
    assert jax.device_get(inputs).completion_length == T
    axes = jax.tree.map(lambda _: 0, inputs)
    assert jax.vmap(lambda row: row.ids.sum(), in_axes=(axes,))(inputs).shape == (4,)
