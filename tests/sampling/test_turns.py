"""Several turns: ids in and ids out, log-probs equal to a rescore, errors that name the prompt."""

import dataclasses
import math
from threading import Event

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.data.padding import pad_right
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_decoder, language_policy
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sampling.draws import language_draw
from rlhf_jax.sampling.turns import StepError, rollout_turns, time_limited
from rlhf_jax.types import Prompts, Rollout, Trajectory

WORDS = list("abcdefg")
VOCABULARY = standard_vocabulary(train_word_tokenizer(WORDS))  # a is 4, ..., g is 10
KEY = jax.random.key(3)
P, TURN, B, K, N, T = 5, 4, 4, 2, 4, 20


def scripted_draw(script, seen):
    """Draws `script[turn]`, ids for each row; the log-probs are -id and -id / 2."""

    def draw(params, prompts, key, samples, first=0):
        ids, mask = pad_right(script[len(seen)], TURN)
        seen.append((prompts, key, samples, first))
        shape = (len(prompts.indices), samples, TURN)
        ids, mask = ids.reshape(shape), mask.reshape(shape)
        logps = -jnp.where(mask, ids, 0).astype(jnp.float32)
        finished = jnp.any((ids == 2) & mask, axis=-1)
        return Rollout(Trajectory(None, ids, mask), logps, logps / 2, finished)

    return draw


def two_prompts():
    ids = np.array([[0, 1, 4], [1, 5, 6]])
    return Prompts((ids, ids > 0), np.array([7, 8]))


def play(script, step, seen=None, *, length=12, max_turns=3):
    draw = scripted_draw(script, [] if seen is None else seen)
    options = {"length": length, "max_turns": max_turns, "step": step}
    return rollout_turns(draw, None, two_prompts(), KEY, 2, vocabulary=VOCABULARY, **options)


SCRIPT = [
    [[4, 2], [4, 4, 4, 4], [7, 2], [8, 2]],
    [[6, 6, 2], [9], [9], [8, 2]],
    [[9], [9], [9], [8, 2]],
]
ANSWERS = {  # (prompt, answer, turn) -> what the step returns
    (7, "a", 0): ("b b", 0.5, False),  # two tokens to read
    (7, "c c", 1): ("b", True, True),  # the end; nothing more is read
    (7, "a a a a", 0): ("b", 0.25, False),  # an answer that was cut ends its row
    (8, "d", 0): ("a a a a a a a", -1, False),  # 2 + 7 tokens leave 3 of 12 for a turn of 4
    (8, "e", 0): (None, 0.0, False),
    (8, "e", 1): ("f", None, False),  # no reward
    (8, "e", 2): ("f", np.float32(2.0), False),  # out of turns
}


def table_step(index, history, answer):
    return ANSWERS[index, answer, len(history)]


def test_turns_are_written_one_after_the_other():
    turns = play(SCRIPT, table_step)
    trajectory = turns.rollout.trajectory
    ids = [
        [4, 2, 5, 5, 6, 6, 2, 0, 0, 0, 0, 0],
        [4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0],
        [7, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [8, 2, 8, 2, 9, 8, 2, 0, 0, 0, 0, 0],
    ]
    turn_ids = [
        [0, 0, -1, -1, 1, 1, 1, -1, -1, -1, -1, -1],
        [0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1],
        [0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1],
        [0, 0, 1, 1, -1, 2, 2, -1, -1, -1, -1, -1],
    ]
    ids, turn_ids = (np.reshape(x, (2, 2, 12)) for x in (ids, turn_ids))
    np.testing.assert_array_equal(trajectory.actions, ids)
    np.testing.assert_array_equal(turns.turn_ids, turn_ids)
    np.testing.assert_array_equal(trajectory.mask, turn_ids >= 0)
    np.testing.assert_array_equal(trajectory.valid, ids > 0)  # an observation is read
    logps = np.where(turn_ids >= 0, -ids, 0.0)
    np.testing.assert_array_equal(turns.rollout.token_logps, logps)
    np.testing.assert_array_equal(turns.rollout.sampling_token_logps, logps / 2)
    np.testing.assert_array_equal(trajectory.inputs.ids[1, 0, :3], [1, 5, 6])


def test_rewards_and_how_each_row_ended():
    turns = play(SCRIPT, table_step)
    nan = math.nan
    rewards = [[[0.5, 1, 0], [0.25, 0, 0]], [[-1, 0, 0], [0, nan, 2]]]
    np.testing.assert_array_equal(turns.rewards, rewards)
    np.testing.assert_array_equal(turns.weights, [[1, 1], [1, 0]])
    np.testing.assert_array_equal(turns.rollout.finished, [[1, 0], [0, 0]])
    np.testing.assert_array_equal(turns.truncated, [[0, 1], [1, 0]])  # the last used up its turns


def test_every_turn_is_drawn_after_what_came_before():
    seen, histories = [], []

    def step(index, history, answer):
        histories.append((index, history))
        return table_step(index, history, answer)

    play(SCRIPT, step, seen)
    asked, keys, samples, numbers = zip(*seen, strict=True)
    first, *later = [np.where(mask, ids, 0) for ids, mask in (x.inputs for x in asked)]
    np.testing.assert_array_equal(first, [[0, 1, 4], [1, 5, 6]])
    assert [x.shape for x in later] == [(4, 3 + 12 - TURN)] * 2
    np.testing.assert_array_equal(later[0][0], [0, 1, 4, 4, 2, 5, 5, 0, 0, 0, 0])
    np.testing.assert_array_equal(later[1][3], [1, 5, 6, 8, 2, 8, 2, 9, 0, 0, 0])
    np.testing.assert_array_equal(later[0][:, :3], np.repeat(first, 2, axis=0))
    assert [list(x.indices) for x in asked] == [[7, 8], [7, 7, 8, 8], [7, 7, 8, 8]]
    assert samples == (2, 1, 1)
    np.testing.assert_array_equal(numbers[1], [[0], [1], [0], [1]])
    assert keys[0] == KEY
    assert len({np.asarray(jax.random.key_data(key)).tobytes() for key in keys}) == 3
    assert histories[4] == (7, (("a", "b b"),))
    assert histories[6] == (8, (("e", ""), ("e", "f")))
    assert len(histories) == 7  # a row that has ended is not asked again


def test_it_stops_with_the_last_row():
    seen = []
    play(SCRIPT, lambda index, history, answer: ("b", 0.0, True), seen)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "returned",
    [
        "b",
        ("b", 0.0),
        (5, 0.0, True),
        ("b", "good", True),
        ("b", math.inf, True),
        ("b", [1.0, 2.0], True),
        ("b", 0.0, "yes"),
        ("b", 0.0, None),
    ],
)
def test_a_step_that_returns_something_else_is_named(returned):
    def step(index, history, answer):
        return returned if (index, len(history)) == (8, 1) else (None, 0.0, False)

    with pytest.raises(StepError, match=r"returned .* at prompt 8, turn 1; expected \(obs"):
        play(SCRIPT, step)


def test_a_step_that_raises_names_the_prompt_and_keeps_the_cause():
    def step(index, history, answer):
        return "b", 1 / (index - 8), False

    with pytest.raises(StepError, match="prompt 8, turn 0: ZeroDivisionError: division") as caught:
        play(SCRIPT, step)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_episode_has_room_for_one_turn_at_least():
    with pytest.raises(ValueError, match=r"length must be in \[4, inf\), got 3"):
        play(SCRIPT, table_step, length=3)
    with pytest.raises(ValueError, match="max_turns must be in"):
        play(SCRIPT, table_step, max_turns=0)


MODEL = make_transformer(
    TransformerConfig(
        vocab_size=11, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=24
    )
)
POLICY, DECODER = language_policy(MODEL), language_decoder(MODEL)
PARAMS = random_params(POLICY.init, seed=5)
SHAPES = []  # of every prefill that is traced


def traced_prefill(params, ids, *rest):
    SHAPES.append(ids.shape)
    return DECODER.prefill(params, ids, *rest)


DRAW = language_draw(
    DECODER._replace(prefill=traced_prefill),
    SamplingConfig(max_new_tokens=TURN, stop_ids=(2, 5, 9), temperature=1.5),
)


def ragged_prompts():
    rng = np.random.default_rng(0)
    mask = np.arange(P) >= P - np.array([[5], [1], [3], [2]])
    return Prompts((np.where(mask, rng.integers(1, 11, (B, P)), 0), mask), np.arange(B) + 100)


def talk(index, history, answer):
    """Observations of 0 to 4 words; an episode is over with the third answer of one word."""
    short = len(answer.split()) < 2 and len(history) == 2
    return " ".join(WORDS[: (index + 2 * len(history)) % 5]), float(len(answer)), short


def episodes(prompts, samples=K, first=0, **options):
    options = {"length": T, "max_turns": N, "step": talk, **options}
    return rollout_turns(
        DRAW, PARAMS, prompts, KEY, samples, first, vocabulary=VOCABULARY, **options
    )


@pytest.fixture(scope="module")
def turns():
    return episodes(ragged_prompts())


@pytest.mark.long
def test_logps_as_sampled_are_those_of_a_rescore(turns):
    trajectory = turns.rollout.trajectory
    rescored = jax.jit(POLICY.logps)(PARAMS, trajectory.inputs, trajectory.actions)
    want = jnp.where(trajectory.mask, rescored, 0.0)
    np.testing.assert_allclose(turns.rollout.token_logps, want, atol=1e-5)
    # Not for want of trying: every way to end, every turn, observations between the answers.
    taken = np.max(turns.turn_ids, axis=-1)
    ended = turns.rollout.finished | turns.truncated
    assert set(np.unique(taken)) == set(range(N))
    assert np.any(turns.rollout.finished)
    assert np.any(turns.truncated)
    assert not np.all(ended)
    assert np.sum(trajectory.valid & ~trajectory.mask) > 10
    assert np.max(np.abs(turns.rollout.sampling_token_logps - turns.rollout.token_logps)) > 0.1


def same(got, want):
    """Ids, turns, rewards and flags equal; log-probs within 1e-5."""
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_rows_do_not_depend_on_the_order_of_the_batch(turns):
    order = np.array([2, 0, 3, 1])
    shuffled = episodes(jax.tree.map(lambda x: x[order], ragged_prompts()))
    same(shuffled, jax.tree.map(lambda x: x[order], turns))


def test_first_continues_the_samples(turns):
    further = episodes(ragged_prompts(), first=1)
    same(*(jax.tree.map(lambda x, k=k: x[:, k], y) for y, k in ((further, 0), (turns, 1))))
    actions = further.rollout.trajectory.actions
    assert not np.array_equal(actions[:, 0], actions[:, 1])


def test_a_task_without_a_step_has_the_single_answers_of_the_draw(turns):
    single = episodes(ragged_prompts(), length=TURN, max_turns=1, step=None)
    want = DRAW(PARAMS, ragged_prompts(), KEY, K)
    trajectory = single.rollout.trajectory
    np.testing.assert_array_equal(trajectory.valid, want.trajectory.mask)
    same(dataclasses.replace(trajectory, valid=None), want.trajectory)
    same(single.rollout[1:], want[1:])
    np.testing.assert_array_equal(single.truncated, ~want.finished)
    np.testing.assert_array_equal(single.rewards, np.zeros((B, K, 1)))
    # And so begins an episode of several turns.
    np.testing.assert_array_equal(
        np.where(turns.turn_ids == 0, turns.rollout.trajectory.actions, 0)[..., :TURN],
        trajectory.actions,
    )


def test_two_programs_are_compiled_whatever_the_number_of_turns(turns):
    episodes(ragged_prompts(), max_turns=3)
    assert SHAPES == [(B, P), (B * K, P + T - TURN)]


def test_a_step_that_hangs_is_an_error_that_names_the_prompt():
    free = Event()

    def hangs(index, history, answer):
        if index == 8:
            free.wait()
        return None, 1.0, True

    with pytest.raises(StepError, match=r"prompt 8, turn 0: TimeoutError: no outcome within 0.2"):
        play(SCRIPT, time_limited(hangs, 0.2))
    free.set()


def test_a_step_in_time_is_the_step_itself_and_its_errors_are_its_own():
    found, limited = play(SCRIPT, table_step), play(SCRIPT, time_limited(table_step, 60.0))
    np.testing.assert_array_equal(found.rewards, limited.rewards)

    def breaks(index, history, answer):
        raise KeyError("paper")

    with pytest.raises(StepError, match="KeyError: 'paper'"):
        play(SCRIPT, time_limited(breaks, 60.0))
    with pytest.raises(ValueError, match="seconds must be in"):
        time_limited(table_step, 0.0)


def test_agents_take_turns_with_their_own_params():
    """Who is asked for each turn, and what it was shown."""
    asked, draw = [], scripted_draw(SCRIPT, [])

    def spoken(params, *given):
        asked.append(params)
        return draw(params, *given)

    options = {"vocabulary": VOCABULARY, "length": 12, "max_turns": 3, "step": table_step}
    found = rollout_turns(spoken, ("talks", "judges"), two_prompts(), KEY, 2, agents=2, **options)
    assert asked == ["talks", "judges", "talks"]
    plain = play(SCRIPT, table_step)
    np.testing.assert_array_equal(found.turn_ids, plain.turn_ids)
    for params in (("talks",), "talks", None):
        with pytest.raises(ValueError, match="agents 2 need a list or tuple of so many params"):
            rollout_turns(spoken, params, two_prompts(), KEY, 2, agents=2, **options)
    with pytest.raises(ValueError, match=r"agents must be in \[1, inf\)"):
        rollout_turns(spoken, (), two_prompts(), KEY, 2, agents=0, **options)


def test_an_empty_turn_is_a_turn():
    """An agent that says nothing but its stop token: the step reads "" and the turn counts."""
    heard = []

    def step(index, history, answer):
        heard.append(answer)
        return "b", 0.0, len(history) == 1

    script = [[[2]] * 4, [[4, 2]] * 4]
    found = play(script, step)
    assert heard == [""] * 4 + ["a"] * 4
    np.testing.assert_array_equal(found.turn_ids[0, 0, :4], [0, -1, 1, 1])
    assert found.weights.min() == 1.0
