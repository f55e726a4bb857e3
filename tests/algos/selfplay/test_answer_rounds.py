"""Rounds as programs: failing judges, bad arguments, memories, and a small language model."""

from functools import partial

import answer_population as toy
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from answer_population import KEY, LOGPS, table
from random_params import random_params

from rlhf_jax.algos import selfplay as methods
from rlhf_jax.algos.selfplay.queue import empty_queue, push_answers
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_decoder, language_policy, mixture_decoder
from rlhf_jax.rewards import JudgeError
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sampling.draws import language_draw, policy_draw
from rlhf_jax.types import Prompts, Trajectory

ROWS = 4
METHODS = {
    "nash_md_pg": partial(methods.nash_md_pg, beta=0.1),
    "nash_ema_pg": partial(methods.nash_ema_pg, beta=0.1, decay=0.5),
    "nash_mp": partial(methods.nash_mp_pg, eta=1.0, beta=0.1, steps=2),
    "online_ipo": partial(methods.online_ipo, beta=0.5),
    "egpo": partial(methods.egpo, beta=0.5),
    "iterative_dpo": partial(methods.iterative_dpo, beta=0.5, steps=2),
    "inpo": partial(methods.inpo, eta=1.0, beta=0.1, steps=2),
    "onpo": partial(methods.onpo, eta=1.0, steps=2),
    "td_mnpo": partial(
        methods.td_mnpo_regression, eta=1.0, beta=0.1, history_weights=(0.5, 0.25, 0.25), steps=2
    ),
    "spo": partial(methods.spo, beta=0.1, samples=3),
    "spo_queue": partial(methods.spo_queue, beta=0.1, samples=2, size=3, prompt_count=9),
}
every_method = pytest.mark.parametrize("name", METHODS)
TABLE_DRAW = policy_draw(toy.POLICY)
PROMPTS = Prompts(np.zeros(ROWS, int), np.arange(ROWS))


def rounds(method, params, prompts, count):
    """The states before and after each of so many rounds, and the last metrics."""
    states, metrics = [method.init(params)], {}
    for number in range(count):
        state, metrics = method.round(states[-1], prompts, jax.random.fold_in(KEY, number))
        states.append(state)
    return states, metrics


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


# ---- Judges that fail.


def gone(indices):
    raise RuntimeError("gone")


def rubbish(indices):
    return np.full(len(indices), np.nan)


class Flaky:
    """The matrix judge; `fail(indices)` answers its question number `at`, counted from 1."""

    def __init__(self):
        self.at, self.fail, self.asked = 0, gone, 0

    def __call__(self, indices, first, second):
        self.asked += 1
        if self.asked == self.at:
            return self.fail(indices)
        return toy.matrix_judge(indices, first, second)


@pytest.mark.long
@every_method
def test_a_judge_that_fails_leaves_the_state_whole(name):
    """At any question of two rounds: the state before is untouched, and the round can be made."""
    flaky = Flaky()
    arena = toy.arena(TABLE_DRAW, flaky, optimizer=optax.adam(0.1))
    method = METHODS[name](arena)
    states, _ = rounds(method, table(LOGPS), PROMPTS, 2)
    copies = [jax.tree.map(np.array, state) for state in states]
    questions = flaky.asked // 2  # of each round
    for question in range(1, 2 * questions + 1):
        flaky.asked, flaky.at, flaky.fail = 0, question, gone if question % 2 else rubbish
        held = (question - 1) // questions
        for number in range(held):
            same(
                method.round(states[number], PROMPTS, jax.random.fold_in(KEY, number))[0],
                states[number + 1],
            )
        key = jax.random.fold_in(KEY, held)
        with pytest.raises(JudgeError):
            method.round(states[held], PROMPTS, key)
        same(jax.tree.map(np.array, states[held]), copies[held])
        same(method.round(states[held], PROMPTS, key)[0], states[held + 1])


def test_a_judgement_of_the_wrong_shape_is_refused():
    arena = toy.arena(TABLE_DRAW, lambda indices, first, second: np.ones((2, 2)), 0.1)
    method = methods.nash_md_pg(arena, beta=0.1)
    with pytest.raises(JudgeError, match=r"returned shape \(2, 2\)"):
        method.round(method.init(table(LOGPS)), PROMPTS, KEY)


# ---- Memories.


def test_the_history_is_the_last_params_newest_first():
    arena = toy.arena(TABLE_DRAW, toy.matrix_judge, 0.1)
    states, _ = rounds(METHODS["td_mnpo"](arena), table(LOGPS), PROMPTS, 4)
    params = [state.train.params for state in states]
    same(states[0].memory, (params[0], params[0]))
    same(states[1].memory, (params[0], params[0]))
    same(states[2].memory, (params[1], params[0]))
    same(states[3].memory, (params[2], params[1]))
    same(states[4].memory, (params[3], params[2]))
    assert [int(state.round) for state in states] == [0, 1, 2, 3, 4]


def answered(*rows):
    """Answers [B, K] of one step."""
    actions = jnp.asarray(rows)[..., None]
    return Trajectory(jnp.zeros_like(actions), actions, jnp.ones(actions.shape, bool))


@pytest.mark.long
def test_a_queue_puts_the_newest_in_front_and_drops_the_oldest():
    queue = empty_queue(answered([0, 0]), prompt_count=4, size=3)
    np.testing.assert_array_equal(queue.rounds, np.full((4, 3), -1))
    one = push_answers(queue, jnp.array([3, 1]), answered([5, 6], [7, 8]), 0)
    two = push_answers(one, jnp.array([1]), answered([9, 10]), 4)
    np.testing.assert_array_equal(one.answers.actions[np.array([3, 1]), :2, 0], [[5, 6], [7, 8]])
    np.testing.assert_array_equal(one.rounds[np.array([3, 1])], [[0, 0, -1], [0, 0, -1]])
    np.testing.assert_array_equal(two.answers.actions[1, :, 0], [9, 10, 7])
    np.testing.assert_array_equal(two.rounds[1], [4, 4, 0])
    np.testing.assert_array_equal(two.answers.actions[3], one.answers.actions[3])
    np.testing.assert_array_equal(two.rounds[np.array([0, 2])], np.full((2, 3), -1))
    assert not queue.answers.mask.any()
    assert one.rounds[1, 0] == 0  # untouched by the second push


@pytest.mark.long
def test_each_answer_meets_its_group_and_the_past_but_never_itself():
    """Win rates by hand over two rounds; prompts that were not there keep their queue."""
    drawn = iter([[[0, 1], [2, 2]], [[1, 2]]])
    asked = []

    def draw(params, prompts, key, samples, first=0):
        return toy.rollout(params, next(drawn))

    def judge(indices, first, second):
        rows = zip(indices.tolist(), toy.actions_of(first), toy.actions_of(second), strict=True)
        asked.append([tuple(map(int, row)) for row in rows])
        return toy.matrix_judge(indices, first, second)

    arena = toy.arena(draw, judge, 1.0)
    method = methods.spo_queue(arena, beta=0.0, samples=2, size=3, prompt_count=6)
    first, _ = method.round(method.init(table(LOGPS)), Prompts(np.zeros(2), np.array([5, 2])), KEY)
    second, metrics = method.round(first, Prompts(np.zeros(1), np.array([5])), KEY)
    assert asked[0] == [(5, 0, 1), (5, 1, 0), (2, 2, 2), (2, 2, 2)]
    assert asked[1] == [(5, 1, 2), (5, 1, 0), (5, 2, 1), (5, 2, 0)]
    wins = np.array([(1.0 + 0.25) / 2, (0.0 + 1.0) / 2])  # of answers 1 and 2
    onehot = np.eye(3)[[1, 2]]
    probs = np.asarray(jax.nn.softmax(first.train.params[0]))
    ascent = np.mean((wins - 0.5)[:, None] * (onehot - probs), axis=0)
    np.testing.assert_allclose(second.train.params[0], first.train.params[0] + ascent, atol=1e-6)
    np.testing.assert_allclose(metrics["ages/mean"].value(), 0.5)
    np.testing.assert_array_equal(second.memory.answers.actions[5, :, 0], [1, 2, 0])
    np.testing.assert_array_equal(second.memory.rounds[2], [0, 0, -1])


@pytest.mark.long
def test_a_queue_that_is_there_from_the_start_changes_no_round():
    """All states then have one structure, which checkpoints need."""
    arena = toy.arena(TABLE_DRAW, toy.matrix_judge, 0.1)
    shapes = jax.eval_shape(lambda: answered([0, 0]))
    whole = lambda arena: METHODS["spo_queue"](arena, like=shapes)  # noqa: E731  # ty: ignore[unknown-argument]
    states, _ = rounds(whole(arena), table(LOGPS), PROMPTS, 2)
    expected, _ = rounds(METHODS["spo_queue"](arena), table(LOGPS), PROMPTS, 2)
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[2])
    same(states[1:], expected[1:])


@pytest.mark.long
def test_a_round_of_iterative_dpo_by_hand():
    """Two steps of DPO on one winner and one loser, the second from where the first ended.

    L = -log sigmoid(b D), D = z_w - z_l - its value under the reference, and dD = onehot_w -
    onehot_l on logits: step 1, D = 0, moves them by b / 2; step 2, D = 2 (b / 2), by
    b sigmoid(-b D).
    """
    arena = toy.arena(toy.listed([[1, 2]]), lambda *asked: np.ones(1), 1.0)
    arena = arena._replace(ref_params=table(LOGPS))
    method = methods.iterative_dpo(arena, beta=0.5, steps=2)
    state, _ = method.round(method.init(table(LOGPS)), Prompts(np.zeros(1, int), np.zeros(1)), KEY)
    moved = 0.25 + 0.5 / (1 + np.exp(0.5 * 0.5))
    expected = np.asarray(LOGPS) + moved * np.array([0.0, 1.0, -1.0])
    np.testing.assert_allclose(state.train.params[0], expected, atol=1e-6)


@pytest.mark.long
def test_one_answer_alone_has_nothing_to_say_at_first():
    def judge(indices, first, second):
        raise AssertionError("there is nothing to compare")

    arena = toy.arena(TABLE_DRAW, judge, 1.0)
    method = methods.spo_queue(arena, beta=0.0, samples=1, size=2, prompt_count=ROWS)
    state, _ = method.round(method.init(table(LOGPS)), PROMPTS, KEY)
    np.testing.assert_array_equal(state.train.params, table(LOGPS))


@pytest.mark.parametrize(
    ("indices", "message"), [([0, 9], r"indices must be in \[0, 9\)"), ([1, 1], "occurs twice")]
)
def test_prompts_without_a_place_of_their_own_in_the_queue_are_refused(indices, message):
    arena = toy.arena(TABLE_DRAW, toy.matrix_judge, 1.0)
    method = METHODS["spo_queue"](arena)
    with pytest.raises(ValueError, match=message):
        method.round(method.init(table(LOGPS)), Prompts(np.zeros(2), np.array(indices)), KEY)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(methods.nash_ema_pg, beta=0.1, decay=1.5), "decay must be in"),
        (partial(methods.nash_mp_pg, eta=0.0, beta=0.1, steps=1), r"eta must be in \(0, inf\)"),
        (partial(methods.nash_mp_pg, eta=1.0, beta=0.1, steps=0), r"steps must be in \[1, inf\)"),
        (partial(methods.nash_mp_pg, eta=2.0, beta=0.6, steps=1), r"eta \* beta must be in"),
        (partial(methods.online_ipo, beta=0.0), r"beta must be in \(0, inf\)"),
        (partial(methods.egpo, beta=-1.0), r"beta must be in \(0, inf\)"),
        (partial(methods.iterative_dpo, beta=0.0, steps=1), r"beta must be in \(0, inf\)"),
        (partial(methods.iterative_dpo, beta=0.1, steps=0), r"steps must be in \[1, inf\)"),
        (partial(methods.inpo, eta=2.0, beta=0.6, steps=1), r"eta \* beta must be in"),
        (partial(methods.onpo, eta=1.0, steps=0), r"steps must be in \[1, inf\)"),
        (
            partial(
                methods.td_mnpo_regression, eta=1.0, beta=0.1, history_weights=(0.5, 0.4), steps=1
            ),
            "sum to 1",
        ),
        (partial(methods.spo, beta=0.1, samples=1), r"samples must be in \[2, inf\)"),
        (partial(methods.spo_queue, beta=0.1, samples=3, size=2, prompt_count=4), "samples must"),
    ],
)
def test_bad_numbers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(toy.arena(TABLE_DRAW, toy.matrix_judge, 0.1))


# ---- A language model of one layer.

MODEL = make_transformer(
    TransformerConfig(
        vocab_size=6, d_model=8, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=8, d_ff=8
    )
)
LANGUAGE, DECODER = language_policy(MODEL), language_decoder(MODEL)
CONFIG = SamplingConfig(max_new_tokens=3, stop_ids=(2,))
DRAW = language_draw(DECODER, CONFIG)
MIXED_DRAW = language_draw(mixture_decoder(DECODER, weight=0.25), CONFIG)
PARAMS, REF_PARAMS = random_params(LANGUAGE.init, seed=3), random_params(LANGUAGE.init, seed=4)
LANGUAGE_PROMPTS = Prompts(
    (np.array([[0, 3], [4, 5], [1, 1], [0, 5]]), np.array([[0, 1], [1, 1], [1, 1], [0, 1]], bool)),
    np.array([7, 2, 5, 0]),
)
LANGUAGE_METHODS = METHODS | {
    "nash_md_pg": partial(methods.nash_md_pg, beta=0.1, mixed_draw=MIXED_DRAW)
}


def threes_judge(indices, first, second):
    """More threes are better."""
    counts = [
        np.sum((np.asarray(x.actions) == 3) & np.asarray(x.mask), -1) for x in (first, second)
    ]
    return 1 / (1 + np.exp(counts[1] - counts[0]))


QUICK = ("nash_md_pg", "egpo", "td_mnpo", "spo_queue")  # each way of making a round


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in METHODS],
)
def test_a_language_model_plays_every_method(name):
    arena = methods.Arena(LANGUAGE, optax.adam(0.01), DRAW, threes_judge, REF_PARAMS)
    method = LANGUAGE_METHODS[name](arena)
    states, metrics = rounds(method, PARAMS, LANGUAGE_PROMPTS, 2)
    assert {"loss", "grad_norm", "prefs/mean"} <= metrics.keys()
    assert states[2].round == 2
    assert all(np.isfinite(mean.value()) and mean.weight > 0 for mean in metrics.values())
    moved = jax.tree.map(lambda a, b: np.any(a != b), states[2].train.params, PARAMS)
    assert all(jax.tree.leaves(moved))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(states[2].train.params))
    again, _ = rounds(method, PARAMS, LANGUAGE_PROMPTS, 2)
    same(again, states)
