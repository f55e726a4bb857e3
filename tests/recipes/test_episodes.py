"""Tasks with a step: methods learn from whole episodes, and turns have their own credit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import LENGTH, PROMPTS, TASK, keyed, probability_of_red, reds, unigram_lab

from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.groups import leave_one_out_advantages
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.recipes import (
    Fit,
    Penalty,
    Scored,
    dapo,
    gae_of_turns,
    grpo,
    make_lab,
    make_prompts,
    measure,
    online,
    ppo,
    prompt_rows,
    read_completions,
    reinforce_turns,
    rloo,
    sample_pairs,
    task_reward,
    text_task,
)
from rlhf_jax.recipes.episodes import (
    Transcripts,
    Turns,
    mask_unrewarded,
    score_transcripts,
    task_rollout,
    transcript_texts,
    turn_metrics,
)
from rlhf_jax.recipes.methods import turn_advantages
from rlhf_jax.recipes.methods.turns import turns_of
from rlhf_jax.training import Stage, UserError, open_run, read_metrics
from rlhf_jax.types import Rollout, ValueFn

UNIGRAM = unigram_lab()
LAB = UNIGRAM._replace(
    token_logps=jax.jit(lambda p, t: UNIGRAM.policy.logps(p, t.inputs, t.actions)),
    value=ValueFn(
        lambda key: jnp.zeros(()),
        lambda params, inputs: jnp.broadcast_to(
            params, (*inputs.ids.shape[:-1], inputs.completion_length)
        ),
    ),
    axes={"policy": (None,), "value": ()},
)
START = LAB.policy.init(None)


def red_step(index, history, answer):
    """One point for each red, and a second try after the word grey."""
    return "grey", answer.split().count("red"), len(history) == 1


def step_task(step, max_turns=2, score=None):
    options = {"objective": "return", "heldout": 8}
    return text_task(PROMPTS, score, step=step, max_turns=max_turns, **options)


REDS = step_task(red_step)


def improve(out, task, method, *, lab=LAB, first=START, steps=1, rate=0.1, name="a", **options):
    """The params and the metrics of an online stage."""
    numbers = prompt_rows(task, batch_size=8, seed=0)
    fit = Fit(optax.adam(rate), steps=steps)
    with open_run(out, slug="episodes", config={}) as run:
        args = (lab, task, method, task_reward(lab, task), first, numbers, fit)
        params = online(Stage(run, name), *args, key=keyed(lab), **options)
    return params, read_metrics(out)


# A guessing game: the number is hidden, and after the first guess the policy reads low or high.
NUMBERS = ("one", "two", "three")
GAME = standard_vocabulary(train_word_tokenizer((*NUMBERS, "low", "high", "guess")))
CONFIG = TransformerConfig(
    vocab_size=GAME.size, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=16
)
GUESSER = make_lab(CONFIG, GAME, prompt_length=2, answer_length=2)


def guess(index, history, answer):
    word = answer.partition(" ")[0]
    if word not in NUMBERS:
        return None, -1.0, True
    gap = NUMBERS.index(word) - index % 3
    return ("low", "", "high")[int(np.sign(gap)) + 1], float(gap == 0), gap == 0


GUESSING = text_task(["guess"] * 32, None, objective="return", heldout=8, step=guess, max_turns=2)


@pytest.fixture(scope="module")
def guesser():
    return jax.tree.map(lambda x: 0.5 * x, GUESSER.policy.init(jax.random.key(0)))


@pytest.mark.long
def test_log_probs_of_every_turn_are_those_of_a_rescore(guesser):
    prompts = make_prompts(GUESSER, GUESSING, np.arange(8))
    rollout, turns = task_rollout(GUESSER, GUESSING, guesser, prompts, keyed(GUESSER), 8)
    trajectory = rollout.trajectory
    rescored = GUESSER.token_logps(guesser, trajectory)
    assert trajectory.mask.shape == (8, 8, 2 * 2 + 2)  # two answers, an observation in between
    np.testing.assert_allclose(
        rollout.token_logps, jnp.where(trajectory.mask, rescored, 0.0), atol=1e-5
    )
    assert turns is not None
    assert trajectory.valid is not None
    assert (turns.turn_ids == 1).any()
    observed = trajectory.valid & ~trajectory.mask
    words = {GAME.tokenizer.id_to_token(int(i)) for i in trajectory.actions[observed]}
    assert words <= {"low", "high"}
    assert words


@pytest.mark.long
def test_grpo_learns_to_guess(tmp_path, guesser):
    method = grpo(GUESSER, samples=8)
    options = {"lab": GUESSER, "first": guesser, "steps": 10, "rate": 0.03}
    _, rows = improve(tmp_path / "run", GUESSING, method, **options)
    returns = [row["named/return"] for row in rows]
    assert returns == pytest.approx([row["scores/mean"] for row in rows])
    assert np.mean(returns[-2:]) > np.mean(returns[:2]) + 0.4


METHODS = {
    "reinforce_turns": reinforce_turns(LAB, samples=4, gamma=0.9, kl=Penalty(0.01)),
    "dapo": dapo(LAB, samples=4, epochs=2),
    "ppo": ppo(LAB, PPOConfig(beta=0.01), jnp.zeros(())),
    "ppo of turns": ppo(LAB, PPOConfig(beta=0.01), jnp.zeros(()), credit=gae_of_turns),
}


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_from_episodes(name, tmp_path):
    params, rows = improve(tmp_path / "run", REDS, METHODS[name], steps=15)
    assert probability_of_red(START) == pytest.approx(1 / 8)
    assert probability_of_red(params) > 0.2
    assert max(row["episodes/turns"] for row in rows) > 1


@pytest.mark.long
def test_an_episode_of_one_turn_is_a_single_answer(tmp_path):
    def once(index, history, answer):
        return None, answer.count("red"), True

    single, method = step_task(once, max_turns=1), rloo(LAB, samples=4, kl=Penalty(0.1))
    prompts = make_prompts(LAB, TASK, np.arange(8))
    (want, none), (got, turns) = (
        task_rollout(LAB, task, START, prompts, keyed(LAB), 4) for task in (TASK, single)
    )
    assert none is None
    assert turns is not None
    assert turns.rewards.shape == (8, 4, 1)
    mask = want.trajectory.mask
    np.testing.assert_array_equal(got.trajectory.mask, mask)
    for one, other in (
        (got.trajectory.actions, want.trajectory.actions),
        (got.token_logps, want.token_logps),
    ):
        np.testing.assert_array_equal(np.where(mask, one, 0), np.where(mask, other, 0))
    np.testing.assert_array_equal(got.finished, want.finished)
    runs = [
        improve(tmp_path / name, task, method, steps=2)
        for name, task in (("plain", TASK), ("step", single))
    ]
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    for plain, stepped in zip(runs[0][1], runs[1][1], strict=True):
        assert plain["named/red"] == stepped["named/return"]
        common = [name for name in plain if name in stepped and "seconds" not in name]
        assert {"loss", "scores/mean", "kl/ref", "answers/length"} <= set(common)
        assert [plain[name] for name in common] == [stepped[name] for name in common]


@pytest.mark.long
def test_evaluation_and_the_table_have_whole_episodes(tmp_path):
    task = step_task(red_step, score=reds)
    found = measure(LAB, task, START, START, np.arange(24), keyed(LAB), samples=2)
    assert set(found.named) == {"red", "return"}
    # The word grey of the step is part of the text, and of no length.
    np.testing.assert_array_equal(found.named["red"], found.named["return"])
    words = np.array([[len(text.split()) for text in row] for row in found.texts])
    assert any("grey" in text for row in found.texts for text in row)
    assert (found.lengths <= 2 * LENGTH).all()
    assert (words <= found.lengths + 1).all()
    _, rows = improve(tmp_path / "run", task, rloo(LAB, samples=2), completions_every=1)
    table = read_completions(tmp_path / "run" / "stages" / "a")
    assert [row["score"] for row in table] == [row["answer"].count("red") for row in table]
    assert rows[0]["named/red"] == rows[0]["named/return"]


@pytest.mark.long
@pytest.mark.parametrize("objective", ["return", "red"])
def test_an_episode_with_a_turn_without_reward_is_left_out(tmp_path, objective):
    def silent(index, history, answer):
        return "grey", None if history else 1.0, False

    task = step_task(silent, score=reds)._replace(objective=objective)
    _, rows = improve(tmp_path / "run", task, reinforce_turns(LAB, samples=4))
    assert 0 < rows[0]["scores/finite"] < 1
    assert np.isfinite(rows[0]["loss"])
    if objective == "return":
        assert rows[0]["scores/mean"] == 1.0


@pytest.mark.long
def test_a_step_that_raises_stops_with_the_number_of_the_prompt(tmp_path):
    def breaks(index, history, answer):
        if index == 5:
            raise RuntimeError("out of paper")
        return None, 0.0, True

    with pytest.raises(UserError, match="failed at prompt 5, turn 0: RuntimeError: out of paper"):
        improve(tmp_path / "run", step_task(breaks), rloo(LAB, samples=2), steps=3)


@pytest.mark.long
def test_wrong_options_are_named(tmp_path):
    method = rloo(LAB, samples=2)
    with pytest.raises(ValueError, match=r"episode_length must be in \[6, inf\), got 5"):
        improve(tmp_path / "short", REDS, method, episode_length=5)
    with pytest.raises(ValueError, match="episode_length is of a task with a step"):
        improve(tmp_path / "single", TASK, method, episode_length=9)
    with pytest.raises(ValueError, match="credit for turns needs a task with a step"):
        improve(tmp_path / "credit", TASK, reinforce_turns(LAB, samples=2))
    with pytest.raises(ValueError, match="a task without a step needs a score"):
        text_task(PROMPTS, None, objective="return", heldout=8)
    with pytest.raises(ValueError, match=r"max_turns must be in \[1, 1\], got 2"):
        text_task(PROMPTS, reds, objective="red", heldout=8, max_turns=2)
    named = step_task(red_step, score=lambda prompts, answers: {"return": [0] * len(answers)})
    with pytest.raises(UserError, match="'return' is that of the steps"):
        measure(LAB, named, START, START, np.arange(8), keyed(LAB))
    where = {"name": "pairs", "split": "train", "facts": {}, "remedy": ""}
    with (
        open_run(tmp_path / "pairs", slug="pairs", config={}) as run,
        pytest.raises(UserError, match="sample_pairs draws single answers"),
    ):
        sample_pairs(run, LAB, REDS, START, np.arange(8), **where)


def test_what_the_host_reads_of_an_episode():
    one, low, stop = (GAME.tokenizer.token_to_id(word) for word in ("one", "low", "<eos>"))
    ids = np.array([[[one, stop, low, one], [one, one, stop, 0]]])
    valid = np.array([[[True] * 4, [True, True, True, False]]])
    rewards = np.array([[[1.0, 0.5], [2.0, 0.0]]])
    found = Transcripts(ids, valid, rewards)
    # The stop token of the first turn goes, the observation stays; padding is no text.
    assert transcript_texts(GUESSER, found) == ["one low one", "one one"]
    assert transcript_texts(GUESSER, Transcripts(ids, None, None)) == ["one", "one one"]
    texts, scores = score_transcripts(GUESSER, GUESSING, np.array([0]), found)
    assert texts == [["one low one", "one one"]]
    np.testing.assert_array_equal(scores["return"], [[1.5, 2.0]])


def test_a_turn_without_reward_masks_its_episode():
    ids = np.array([[[0, 0, 1], [0, 0, 0]]])
    turns = Turns(ids, np.array([[[1.0, np.nan], [2.0, 0.0]]]), np.array([[True, False]]))
    np.testing.assert_array_equal(mask_unrewarded(jnp.array([[3.0, 4.0]]), turns), [[np.nan, 4.0]])
    metrics = turn_metrics(turns)
    # Two turns and one; one of two was cut.
    assert (metrics["episodes/turns"], metrics["episodes/truncated"]) == (1.5, 0.5)


def test_the_last_turn_gets_what_the_score_adds():
    ids = np.array([[[0, -1, 1], [0, 0, -1], [0, 0, 1]]])
    rewards = np.array([[[1.0, 2.0], [3.0, 0.0], [9.0, np.nan]]])
    found = turns_of(episodes(ids, np.array([[4.0, 5.0, np.nan]]), rewards))
    # 4 - 3 on top of the second turn's 2; 5 - 3 on top of the first's 3, the only one taken.
    np.testing.assert_array_equal(found[1], [[[1.0, 3.0], [5.0, 0.0], [0.0, 0.0]]])
    np.testing.assert_array_equal(found[0], ids)


@jax.jit
def episodes(turn_ids, scores, rewards, gap=0.0):
    """Scored episodes of uniform words; `gap` is log pi - log pi_ref of each token."""
    ids = jnp.full(turn_ids.shape, 5)
    prompts = jnp.ones((*ids.shape[:2], 1), jnp.int32)
    trajectory = language_trajectory(prompts, prompts > 0, ids, turn_ids >= 0, ids > 0)
    logps = jnp.where(turn_ids >= 0, -jnp.log(8.0), 0.0)
    rollout = Rollout(trajectory, logps, logps, jnp.ones(ids.shape[:2], bool))
    return Scored(rollout, scores, logps - gap, 0.0, None, turn_ids, rewards)


def test_turn_credit_by_hand():
    ids = [[0, 0, -1, 1], [0, -1, 1, 1], [0, 0, 0, -1], [0, -1, 1, -1]]
    rewards = [[[1.0, 2.0], [0.0, 4.0], [3.0, 0.0], [9.0, np.nan]]]
    # The third has 5 of a reward model and its turn together; the last has no score.
    scores = [[3.0, 4.0, 5.0, np.nan]]
    scored = episodes(np.array([ids]), np.array(scores), np.array(rewards))
    credit = partial(turn_advantages, advantages=leave_one_out_advantages, gamma=0.5)
    found = jax.jit(credit)(scored)
    # G_0 = 1 + 2 / 2, 0 + 4 / 2, 5; G_1 = 2, 4. Each minus the mean of the others' in that turn:
    # 2 - (2 + 5) / 2, 2 - 3.5, 5 - 2; 2 - 4, 4 - 2.
    want = [[-1.5, -1.5, 0, -2], [-1.5, 0, 2, 2], [3, 3, 3, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found, [want], atol=1e-6)


def test_gae_of_turns_by_hand():
    ids, rewards = np.array([[[0, 0, -1, 1, 1]]]), np.array([[[1.0, 2.0]]])
    scored = episodes(ids, np.array([[3.0]]), rewards, 0.5)
    values = jnp.array([[[0.5, 9.0, 9.0, 1.5, 9.0]]])
    config = PPOConfig(beta=0.1, gamma=0.5, gae_lambda=0.5)
    advantages, returns = jax.jit(partial(gae_of_turns, config=config))(scored, values)
    # Two tokens of 0.5 nats at 0.1 leave rewards 0.9 and 1.9. delta_1 = 1.9 - 1.5,
    # delta_0 = 0.9 + 0.5 * 1.5 - 0.5 = 1.15, A_0 = 1.15 + 0.25 * 0.4.
    mask = scored.rollout.trajectory.mask
    np.testing.assert_allclose(advantages, [[[1.25, 1.25, 0, 0.4, 0.4]]], rtol=1e-5)
    np.testing.assert_allclose(returns[mask], [1.75, 1.75, 1.9, 1.9], rtol=1e-5)


@pytest.mark.long
def test_turn_credit_of_one_turn_is_rloo():
    scores = np.array([[1.0, 2.0, 6.0], [0.0, 4.0, np.nan]])
    ids = np.zeros((2, 3, 2), int)
    ids[0, 1, 1] = -1
    given = episodes(ids, scores, scores[..., None], 0.1)._replace(beta=0.3)
    grads = []
    for make in (rloo, partial(reinforce_turns, gamma=0.5)):
        method = make(LAB, samples=3, kl=Penalty(0.3))

        def loss(params, method=method):
            batch, _ = method.prepare(params, given)
            return method.objective(params, batch)[0].value()

        grads.append(jax.jit(jax.grad(loss))(START))
    assert np.abs(grads[0]).max() > 0.1
    np.testing.assert_allclose(*grads, atol=1e-6)
