"""Other layouts of a batch, cell by cell."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax import PreferenceBatch, Trajectory
from rlhf_jax.algos.ppo import PPOBatch
from rlhf_jax.data.padding import pack_rows, pad_left, pad_right
from rlhf_jax.layouts import (
    NotApplicable,
    count_rows,
    equal_parts,
    packed,
    padded,
    padded_left,
    padded_wide,
    reordered,
    unequal_parts,
    with_empty_rows,
)
from rlhf_jax.policies.language import LanguageInputs, language_trajectory

STATES = np.array([[5, 6, 7], [8, 9, 0]])
MASK = np.array([[1, 1, 1], [1, 0, 0]], bool)
STEPS = Trajectory(STATES, STATES - 5, MASK)
NUMBERS = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
ROLLOUT = PPOBatch(STEPS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
PROMPTS, ANSWERS = [[1], [2, 3], [4, 5, 6], [7]], [[8, 9], [10], [1, 2], [3]]


def rows_of_tokens():
    prompt, answer = pad_left(PROMPTS, 3), pad_right(ANSWERS, 2)
    parts = (jnp.asarray(x) for x in (*prompt, *answer))
    batch = language_trajectory(*parts)
    return jax.tree.map(np.asarray, batch)


def test_parts_hold_every_row_once():
    batch = {"x": np.arange(7), "y": np.arange(14).reshape(7, 2)}
    three = equal_parts(batch, parts=3)
    assert [count_rows(part) for part in three] == [3, 2, 2]
    assert [count_rows(part) for part in unequal_parts(batch)] == [1, 6]
    for parts in (three, unequal_parts(batch)):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        jax.tree.map(np.testing.assert_array_equal, joined, batch)


@pytest.mark.parametrize("rows", range(2, 9))
def test_another_order_is_never_the_same(rows):
    (batch,) = reordered({"x": np.arange(rows)})
    assert sorted(batch["x"]) == list(range(rows))
    assert list(batch["x"]) != list(range(rows))


def test_padding_of_steps_and_of_arrays_that_go_with_them():
    (batch,) = padded(ROLLOUT)
    trajectory = batch.trajectory
    np.testing.assert_array_equal(trajectory.inputs, [[5, 6, 7, 9, 9], [8, 9, 9, 9, 9]])
    np.testing.assert_array_equal(trajectory.actions, [[0, 1, 2, 4, 4], [3, 4, 4, 4, 4]])
    np.testing.assert_array_equal(trajectory.mask[:, 3:], np.zeros((2, 2)))
    np.testing.assert_array_equal(batch.returns[0], [0.1, 0.2, 0.3, np.nan, np.nan])
    np.testing.assert_array_equal(batch.returns[1], [0.4, *[np.nan] * 4])


def test_wide_padding_holds_the_least_entry():
    for width, wide in ((3, 3 + 128), (200, 400)):
        batch = jax.tree.map(lambda x, width=width: np.resize(x, (2, width)), ROLLOUT)
        counted = batch.trajectory.mask
        (batch,) = padded_wide(batch)
        trajectory = batch.trajectory
        assert (
            trajectory.mask.shape == trajectory.inputs.shape == batch.old_logps.shape == (2, wide)
        )
        np.testing.assert_array_equal(trajectory.mask[:, :width], counted)
        assert set(trajectory.actions[~trajectory.mask]) == {-5}
        assert set(trajectory.inputs[~trajectory.mask]) == {0}
        assert np.isnan(batch.returns).sum() == (~trajectory.mask).sum()


def test_steps_roll_with_everything_that_belongs_to_them():
    (batch,) = padded_left(ROLLOUT)
    np.testing.assert_array_equal(batch.trajectory.mask, [[0, 0, 1, 1, 1], [0, 0, 0, 0, 1]])
    np.testing.assert_array_equal(batch.trajectory.inputs, [[9, 9, 5, 6, 7], [9, 9, 9, 9, 8]])
    np.testing.assert_array_equal(batch.advantages[1], [*[np.nan] * 4, 0.4])


def test_steps_of_neighbours_share_a_row():
    (batch,) = packed(ROLLOUT)
    np.testing.assert_array_equal(batch.trajectory.inputs, [[5, 6, 7, 8, 9, 9]])
    np.testing.assert_array_equal(batch.trajectory.mask, MASK.reshape(1, 6))
    np.testing.assert_array_equal(batch.old_logps, [[0.1, 0.2, 0.3, 0.4, np.nan, np.nan]])


def test_padding_of_tokens():
    (batch,) = padded(rows_of_tokens())
    inputs = batch.inputs
    np.testing.assert_array_equal(inputs.ids[0], [10, 10, 1, 8, 9, 10, 10])
    np.testing.assert_array_equal(inputs.positions[0], [0, 0, 0, 1, 2, 0, 0])
    np.testing.assert_array_equal(inputs.segments[0], [0, 0, 1, 1, 1, 0, 0])
    assert inputs.completion_length == 4
    np.testing.assert_array_equal(batch.actions, inputs.ids[:, -4:])


def test_a_prompt_is_padded_further_to_the_left():
    before = rows_of_tokens()
    (batch,) = padded_left(before)
    np.testing.assert_array_equal(batch.inputs.ids[1], [10, 10, 10, 2, 3, 10, 10])
    np.testing.assert_array_equal(batch.inputs.segments[1], [0, 0, 0, 1, 1, 1, 0])
    assert batch.inputs.completion_length == 2
    np.testing.assert_array_equal(batch.actions[before.mask], before.actions[before.mask])


def documents():
    rows = [p + a for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    counted = [[False] * len(p) + [True] * len(a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    return rows, counted


def test_a_whole_row_of_tokens_rolls():
    rows = pack_rows(*[documents()[0][:1], 5])
    inputs = LanguageInputs(rows.ids, rows.positions, rows.segments, completion_length=5)
    (batch,) = padded_left(Trajectory(inputs, rows.ids, rows.mask))
    np.testing.assert_array_equal(batch.inputs.ids, [[9, 9, 9, 9, 1, 8, 9]])
    np.testing.assert_array_equal(batch.inputs.positions, [[0, 0, 0, 0, 0, 1, 2]])
    np.testing.assert_array_equal(batch.inputs.segments, [[0, 0, 0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(batch.mask, [[0, 0, 0, 0, 0, 1, 1]])
    assert batch.inputs.completion_length == 7


def test_packed_tokens_are_those_of_pack_rows():
    """Two rows of L = 5 in each row of 10, where pack_rows puts the same two."""
    rows, counted = documents()
    want = [pack_rows(rows[i : i + 2], 10, counted=counted[i : i + 2]) for i in (0, 2)]
    (batch,) = packed(rows_of_tokens())
    assert batch.inputs.completion_length == 10
    for i, each in enumerate(want):
        real = each.segments[0] > 0
        np.testing.assert_array_equal(batch.inputs.ids[i][real], each.ids[0][real])
        np.testing.assert_array_equal(batch.inputs.positions[i], each.positions[0])
        np.testing.assert_array_equal(batch.inputs.segments[i], each.segments[0])
        np.testing.assert_array_equal(batch.mask[i], each.mask[0])
        np.testing.assert_array_equal(batch.actions[i][each.mask[0]], each.ids[0][each.mask[0]])


def test_rows_that_hold_several_documents_are_packed_again():
    rows = pack_rows([[1, 2], [3, 4], [5, 6, 7]], 4)
    inputs = LanguageInputs(rows.ids, rows.positions, rows.segments, completion_length=4)
    (batch,) = packed(Trajectory(inputs, rows.ids, rows.mask))
    np.testing.assert_array_equal(batch.inputs.segments, [[1, 1, 2, 2, 3, 3, 3, 0]])
    np.testing.assert_array_equal(batch.inputs.ids, [[1, 2, 3, 4, 5, 6, 7, 7]])


def test_rows_of_weight_zero_hold_nan_and_the_last_one_is_empty():
    seen = replace(STEPS, valid=np.ones_like(MASK))
    batch = PreferenceBatch(STEPS, seen, np.ones(2), np.ones(2), np.array([1.0, 2.0]))
    (longer,) = with_empty_rows(batch)
    np.testing.assert_array_equal(longer.weights, [1, 2, 0, 0])
    np.testing.assert_array_equal(longer.ref_chosen_logps, [1, 1, np.nan, np.nan])
    np.testing.assert_array_equal(longer.chosen.actions, np.tile(STEPS.actions, (2, 1)))
    empty = np.zeros(3, bool)
    np.testing.assert_array_equal(longer.chosen.mask, [*MASK, MASK[0], empty])
    np.testing.assert_array_equal(longer.rejected.valid[2:], [~empty, empty])
    (named,) = with_empty_rows({"weights": np.ones(1), "x": np.ones((1, 2))})
    np.testing.assert_array_equal(named["weights"], [1, 0, 0])
    np.testing.assert_array_equal(named["x"], [[1, 1], [np.nan, np.nan], [np.nan, np.nan]])


def test_what_is_valid_moves_with_the_steps():
    (batch,) = padded_left(replace(STEPS, valid=np.array([[1, 1, 1], [1, 1, 0]], bool)))
    np.testing.assert_array_equal(batch.mask, [[0, 0, 1, 1, 1], [0, 0, 0, 1, 0]])
    np.testing.assert_array_equal(batch.valid, [[0, 0, 1, 1, 1], [0, 0, 0, 1, 1]])


def test_a_packed_prompt_is_valid():
    before = rows_of_tokens()
    real = before.inputs.segments[:, 3:] > 0
    (batch,) = packed(replace(before, mask=real & [True, False], valid=real))
    np.testing.assert_array_equal(batch.valid, batch.inputs.segments > 0)
    np.testing.assert_array_equal(batch.mask.sum(axis=1), [2, 2])


def test_candidates_keep_their_axis():
    batch = jax.tree.map(lambda x: np.stack([x, x]), ROLLOUT)  # [B, K, T]
    (longer,) = padded(batch)
    (rolled,) = padded_left(batch)
    for k in range(2):
        jax.tree.map(np.testing.assert_array_equal, _row(longer, k), padded(ROLLOUT)[0])
        jax.tree.map(np.testing.assert_array_equal, _row(rolled, k), padded_left(ROLLOUT)[0])
    with pytest.raises(NotApplicable, match=r"not single answers: mask \(2, 2, 3\)"):
        packed(batch)


def _row(batch, k):
    return jax.tree.map(lambda x: x[k], batch)


PAIR = PreferenceBatch(STEPS, STEPS)
OWN_INPUT = replace(STEPS, inputs={"prompt": np.ones((2, 7))})


@pytest.mark.parametrize(
    ("layout", "batch", "told"),
    [
        (packed, PAIR, "2 trajectories"),
        (packed, replace(ROLLOUT, weights=np.ones(2)), r"batch\.weights has one entry per row"),
        (packed, OWN_INPUT, "cannot be shared"),
        (packed, jax.tree.map(lambda x: x[:1], STEPS), "one row has nothing"),
        (padded_left, OWN_INPUT, "inputs have an array without steps"),
        (padded, {"x": np.ones(2)}, "no Trajectory"),
        (padded, {"pair": PAIR, "x": NUMBERS}, r"batch\['x'\] has the steps of no single"),
        (reordered, {"x": np.ones(1)}, "one row"),
        (unequal_parts, PAIR, "2 rows"),
        (with_empty_rows, PAIR, "no weights"),
    ],
)
def test_a_layout_that_does_not_apply_says_why(layout, batch, told):
    with pytest.raises(NotApplicable, match=told):
        layout(batch)
