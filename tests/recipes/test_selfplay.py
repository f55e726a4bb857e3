"""Self-play as a recipe: every method, one counter of comparisons, a budget, failing judges."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from one_word_lab import IDS, TASK, VOCABULARY, one_word_lab, words

from rlhf_jax.algos import selfplay as methods
from rlhf_jax.models import TransformerConfig
from rlhf_jax.recipes import (
    Fit,
    answer_shapes,
    decoded_judge,
    guarded,
    make_arena,
    make_lab,
    make_prompts,
    mixed_draw,
    read_completions,
    selfplay,
    stage_key,
    task_judge,
    tempered_draw,
)
from rlhf_jax.rewards import JudgeError, checked_judge
from rlhf_jax.training import (
    DivergedError,
    Stage,
    UserError,
    open_run,
    read_metrics,
    run_stage,
)

LAB = one_word_lab()
B = 4  # prompts of a round
NUMBERS = [np.arange(i, i + B) for i in range(9)]
REF = words(blue=0.5, green=0.25, red=0.25)
SPO_QUEUE = partial(
    methods.spo_queue,
    beta=0.1,
    samples=2,
    size=3,
    prompt_count=13,
    like=answer_shapes(LAB, 2),
)
# Method and its comparisons in a first round on B prompts.
METHODS = {
    "nash_md_pg": (partial(methods.nash_md_pg, beta=0.1), B),
    "nash_ema_pg": (partial(methods.nash_ema_pg, beta=0.1, decay=0.5), B),
    "nash_mp_pg": (partial(methods.nash_mp_pg, eta=1.0, beta=0.1, steps=2), 2 * 2 * B),
    "online_ipo": (partial(methods.online_ipo, beta=0.5), 2 * B),
    "egpo": (partial(methods.egpo, beta=0.5), 2 * 2 * B),
    "iterative_dpo": (partial(methods.iterative_dpo, beta=0.5, steps=2), B),
    "inpo": (partial(methods.inpo, eta=1.0, beta=0.1, steps=2), B),
    "onpo": (partial(methods.onpo, eta=1.0, steps=2), B),
    "td_mnpo": (
        partial(methods.td_mnpo_regression, eta=1.0, beta=0.1, history_weights=(0.5, 0.5), steps=2),
        B,
    ),
    "spo": (partial(methods.spo, beta=0.1, samples=3), 3 * B),
    "spo_queue": (SPO_QUEUE, 2 * B),
}


class Seen:
    """The judge of the task's scores, with how much it saw; question number `bad` fails."""

    def __init__(self, bad=None):
        self.judge, self.calls, self.rows, self.bad = task_judge(LAB, TASK, beta=2.0), 0, 0, bad

    def __call__(self, indices, first, second):
        self.calls += 1
        if self.calls == self.bad:
            raise RuntimeError("out of paper")
        self.rows += len(indices)
        return self.judge(indices, first, second)


def play(out, method, judge, *, rounds, **options):
    """A stage of so many rounds at most."""
    fit = Fit(optax.sgd(0.5), rounds, save_every=1)
    key = stage_key(LAB, "test")

    def work(stage):
        played = selfplay(stage, LAB, TASK, method, judge, REF, NUMBERS, fit, key=key, **options)
        info = {"comparisons": played.comparisons, "rounds": int(played.state.round)}
        return {"params": played.state.train.params}, info

    with open_run(out, slug="game", config={}, resume=True) as run:
        return run_stage(run, "play", work)


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_every_method_plays_and_its_comparisons_are_those_that_the_judge_saw(tmp_path, name):
    method, comparisons = METHODS[name]
    seen = Seen()
    found = play(tmp_path, method, seen, rounds=1)
    assert found.info == {"comparisons": comparisons, "rounds": 1}
    assert seen.rows == comparisons
    assert np.isfinite(found.arrays["params"]).all()
    assert np.any(found.arrays["params"] != np.asarray(REF))
    (row,) = read_metrics(tmp_path)
    assert row["judge/comparisons"] == comparisons


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three rounds that nobody disturbed, until 60 comparisons are spent.

    Prompts 0 .. 3, 1 .. 4, 2 .. 5; a prompt seen first has 2 comparisons, later 4:
    8, then 3 * 4 + 2 = 14, then 14: 36 in all, of which 22 are spent before the third round.
    """
    out = tmp_path_factory.mktemp("whole") / "run"
    return play(out, SPO_QUEUE, Seen(), rounds=9, budget=30), read_metrics(out)


def test_a_budget_ends_the_run_after_the_round_that_reaches_it(whole):
    found, rows = whole
    assert found.info == {"comparisons": 36, "rounds": 3}
    assert [(row["step"], row["judge/comparisons"]) for row in rows] == [(1, 8), (2, 22), (3, 36)]


def test_a_judge_that_raises_loses_nothing_and_the_run_goes_on_bit_for_bit(tmp_path, whole):
    """It fails in the third round; the second session asks for that round only."""
    with pytest.raises(JudgeError, match="out of paper"):
        play(tmp_path / "run", SPO_QUEUE, Seen(bad=3), rounds=9, budget=30)
    seen = Seen()
    found = play(tmp_path / "run", SPO_QUEUE, seen, rounds=9, budget=30)
    assert seen.rows == 14
    assert found.info == whole[0].info
    np.testing.assert_array_equal(found.arrays["params"], whole[0].arrays["params"])
    assert read_metrics(tmp_path / "run") == whole[1]


@pytest.mark.long
def test_a_round_is_checked_and_shown(tmp_path):
    """Red beats what is not red; a verdict of None leaves one answer without a win rate."""
    play(tmp_path, METHODS["nash_md_pg"][0], Seen(), rounds=1, sampler_gap=0.1, completions_every=1)
    (row,) = read_metrics(tmp_path)
    assert row["sampler/gap"] == 0.0
    assert row["sampler/tokens"] == B
    table = read_completions(tmp_path / "stages" / "play")
    assert {each["step"] for each in table} == {1}
    assert sum(each["scores"]["comparisons"] for each in table) == 2 * B
    with pytest.raises(UserError, match="sampler and trainer differ"):
        play(tmp_path / "b", METHODS["nash_md_pg"][0], Seen(), rounds=1, sampler_gap=-1.0)


@pytest.mark.long
def test_a_gradient_that_is_not_finite_ends_the_game_and_saves_its_answers(tmp_path):
    """A logit that is NaN makes every log-prob NaN."""
    bad = REF.at[IDS["blue"]].set(jnp.nan)
    fit = Fit(guarded(optax.sgd(0.5)), 1)
    given = (LAB, TASK, METHODS["nash_md_pg"][0], Seen(), bad, NUMBERS, fit)
    with open_run(tmp_path, slug="game", config={}) as run:
        stage, key = Stage(run, "play"), stage_key(LAB, "test")
        with pytest.raises(DivergedError, match="step 1 is not finite"):
            selfplay(stage, *given, key=key)
    assert (tmp_path / "stages" / "play" / "bad_batch_1.npz").is_file()


@pytest.mark.long
def test_answers_without_a_verdict_do_not_count(tmp_path):
    """A judge that gives no verdict on the first prompt: the step of the other three."""

    def partly(indices, first, second):
        prefs = np.asarray(task_judge(LAB, TASK, beta=2.0)(indices, first, second)).tolist()
        return [None if i == 0 else pref for i, pref in zip(indices, prefs, strict=True)]

    method = METHODS["nash_md_pg"][0]
    found = play(tmp_path / "a", method, partly, rounds=1)
    numbers, other = [NUMBERS[0][1:]], tmp_path / "b"

    def work(stage):
        fit, key = Fit(optax.sgd(0.5), 1), stage_key(LAB, "test")
        given = (stage, LAB, TASK, method, Seen(), REF, numbers, fit)
        return {"params": selfplay(*given, key=key).state.train.params}, {}

    with open_run(other, slug="game", config={}) as run:
        wanted = run_stage(run, "play", work)
    np.testing.assert_allclose(found.arrays["params"], wanted.arrays["params"], rtol=1e-6)


def test_a_budget_without_a_comparison_is_refused(tmp_path):
    with pytest.raises(ValueError, match="budget must be in"):
        play(tmp_path, SPO_QUEUE, Seen(), rounds=1, budget=0)


def test_micro_batches_are_refused(stage):
    method, fit = METHODS["nash_md_pg"][0], Fit(optax.sgd(0.5), 1, parts=2)
    with pytest.raises(ValueError, match=r"Fit\.parts must be 1, got 2"):
        selfplay(stage, LAB, TASK, method, Seen(), REF, NUMBERS, fit, key=stage_key(LAB, "test"))


@pytest.mark.long
def test_a_judge_of_texts_reads_the_draws_of_an_arena():
    judge = decoded_judge(LAB, lambda indices, first, second: [*indices, *first, *second])
    arena = make_arena(LAB, judge, REF, optax.sgd(0.5))
    prompts = make_prompts(LAB, TASK, np.array([7]))
    found = arena.draw(words(red=1.0), prompts, jax.random.key(0), 1).trajectory
    answer = jax.tree.map(lambda x: x[:, 0], found)
    assert arena.judge(prompts.indices, answer, answer) == [7, "red", "red"]
    np.testing.assert_array_equal(arena.ref_params, REF)


@pytest.mark.long
def test_the_judge_of_a_task_is_the_sigmoid_of_its_scores():
    prompts = make_prompts(LAB, TASK, np.arange(3))
    red, green, blue = (
        jax.tree.map(lambda x: x[:, 0], LAB.draw(params, prompts, jax.random.key(0), 1).trajectory)
        for params in (words(red=1.0), words(green=1.0), words(blue=1.0))
    )
    judge = checked_judge(task_judge(LAB, TASK, beta=2.0))
    np.testing.assert_allclose(judge(np.arange(3), red, green), 1 / (1 + np.exp(-2.0)))
    np.testing.assert_allclose(judge(np.arange(3), blue, red), 1 / (1 + np.exp(4.0)))
    np.testing.assert_allclose(judge(np.arange(3), red, red), 0.5)
    mute = TASK._replace(score=lambda indices, answers: {"worth": [None] * len(answers)})
    with pytest.raises(JudgeError, match="nan for prompt 0"):
        checked_judge(task_judge(LAB, mute, beta=2.0))(np.arange(3), red, green)


@pytest.mark.long
def test_draws_of_games_are_the_mixture_and_the_temperature():
    """All weight on the reference draws what it draws; temperature 0 draws the likeliest words."""
    config = TransformerConfig(
        vocab_size=VOCABULARY.size,
        d_model=8,
        num_layers=1,
        num_heads=1,
        num_kv_heads=1,
        head_dim=8,
        d_ff=8,
    )
    lab = make_lab(config, VOCABULARY, prompt_length=3, answer_length=2)
    prompts = make_prompts(lab, TASK, np.arange(3))
    own, other = (lab.policy.init(jax.random.key(seed)) for seed in (0, 1))
    key = jax.random.key(2)
    plain = lab.draw(other, prompts, key, 2).trajectory.actions
    mixed = mixed_draw(lab, weight=1.0)((own, other), prompts, key, 2).trajectory.actions
    np.testing.assert_array_equal(mixed, plain)
    greedy = tempered_draw(lab, temperature=0.0)(other, prompts, key, 2)
    first = jax.tree.map(lambda x: x[:, 0], greedy.trajectory)
    likeliest = jnp.argmax(lab.policy.logits(other, first.inputs), -1)
    np.testing.assert_array_equal(
        jnp.where(first.mask, likeliest, 0), jnp.where(first.mask, first.actions, 0)
    )
    like = answer_shapes(lab, 2)
    shapes = [(x.shape[1:], x.dtype) for x in jax.tree.leaves(like)]
    assert shapes == [(x.shape[1:], x.dtype) for x in jax.tree.leaves(greedy.trajectory)]
