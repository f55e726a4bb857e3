"""Process reward models: labels at the ends of steps, a model that learns them, a reward."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.algos.process_model import StepBatch, make_objective, make_update
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops.steps import step_minimum
from rlhf_jax.policies.language import language_step_scores
from rlhf_jax.recipes import (
    Fit,
    Reward,
    Scored,
    gae_of_steps,
    make_lab,
    process_model,
    process_reward,
    step_rows,
    weighted_reward,
)
from rlhf_jax.recipes.process import make_step_ends, step_batch
from rlhf_jax.training import UserError, open_run, run_stage
from rlhf_jax.types import Rollout, Trajectory

VOCABULARY = standard_vocabulary(train_word_tokenizer(["good bad sum ;"]))
SIZE = {"d_model": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "d_ff": 8}
LAB = make_lab(
    TransformerConfig(vocab_size=VOCABULARY.size, **SIZE),
    VOCABULARY,
    prompt_length=2,
    answer_length=7,
)
SEPARATOR = " ; "
ENDS = make_step_ends(VOCABULARY, SEPARATOR)
PARAMS = LAB.reward.init(jax.random.key(0))


def record(*steps, labels=None):
    known = [float("good" in step) for step in steps] if labels is None else labels
    return {"prompt": "sum", "steps": list(steps), "labels": known}


def batch_of(*records):
    return step_batch(LAB, records, ENDS, SEPARATOR)


def test_labels_are_at_the_ends_of_steps():
    batch = batch_of(record("good", "bad sum", "good ; good"), record("bad", labels=[0.25]))
    # good ; bad sum ; good good | <eos> cut off at 7: the third step is not whole. bad <eos>.
    np.testing.assert_array_equal(
        batch.ends, np.array([[0, 1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0, 0]], bool)
    )
    np.testing.assert_array_equal(batch.labels[batch.ends], [1.0, 0.0, 0.25])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record(), "prompt 'sum' must have steps, .* got 0 steps"),
        (record("good", labels=[1, 0]), r"got 1 steps and the labels \[1, 0\]"),
        (record("good", labels=[2]), r"a label in \[0, 1\] for each"),
        (record("good", labels=["yes"]), r"labels \['yes'\]"),
    ],
)
def test_a_record_with_other_labels_is_named(bad, message):
    with pytest.raises(UserError, match=message):
        batch_of(bad)


def test_a_separator_that_the_tokenizer_does_not_have_is_named():
    with pytest.raises(UserError, match=r"no token of the tokenizer has .* '\\n'"):
        make_step_ends(VOCABULARY)
    with pytest.raises(UserError, match="2 steps are 1 in its tokens"):
        step_batch(LAB, [record("good", "bad")], ENDS, " sum ")


def test_a_step_is_read_after_its_last_token():
    """The score at an end is the reward model's score of the answer cut there."""
    trajectory = batch_of(record("good", "bad sum")).trajectory
    scores = language_step_scores(LAB.scorer)(PARAMS, trajectory)
    whole = LAB.scores(PARAMS, trajectory)
    last = int(trajectory.mask[0].sum()) - 1
    np.testing.assert_allclose(scores[0, last], whole[0], rtol=1e-5)


def test_the_loss_is_cross_entropy_of_steps():
    """A right step, a wrong one, and one with the label 1/2."""
    mask = jnp.ones((1, 4), bool)
    trajectory = Trajectory((), jnp.zeros((1, 4), int), mask)
    ends = jnp.array([[True, False, True, True]])
    batch = StepBatch(trajectory, ends, jnp.array([[1.0, 0.0, 0.0, 0.5]]))
    scores = jnp.array([[2.0, jnp.nan, 1.0, 0.0]])
    objective = make_objective(lambda params, trajectory: params)
    mean, diagnostics = objective(scores, batch)
    # log(1 + e^-2) = 0.126928, log(1 + e^1) = 1.313262, log 2 = 0.693147.
    np.testing.assert_allclose(mean.total / mean.weight, 2.133337 / 3, rtol=1e-5)
    accuracy = diagnostics["steps/accuracy"]
    # Right, wrong, and 0 against a label of 1/2, neither of which is above.
    np.testing.assert_allclose(accuracy.total / accuracy.weight, 2 / 3, rtol=1e-6)
    assert callable(make_update(lambda params, trajectory: params, optax.sgd(1.0)))


@pytest.mark.long
def test_a_model_learns_the_labels_and_rewards_by_them(tmp_path):
    """Steps with the word good are right."""
    kinds = [("good", "bad"), ("bad", "good"), ("good", "good"), ("bad", "bad")]
    rows = step_rows(LAB, [record(*kind) for kind in kinds], batch_size=4, separator=SEPARATOR)
    fit = Fit(optax.adam(0.03), steps=60)
    with open_run(tmp_path / "run", slug="process", config={}) as run:
        params = run_stage(
            run, "process", lambda stage: (process_model(stage, LAB, rows, PARAMS, fit), {})
        ).arrays
    batch = batch_of(*(record(*kind) for kind in kinds))
    reward = process_reward(LAB, params, combine=step_minimum, separator=SEPARATOR)
    scores = reward.scores(params, (), batch.trajectory)
    assert (scores > 0.5).tolist() == [False, False, True, False]
    assert reward.steps is not None
    paid = reward.steps(params, (), batch.trajectory)
    np.testing.assert_array_equal((paid > 0.5)[batch.ends], batch.labels[batch.ends] > 0.5)
    np.testing.assert_array_equal(paid[~batch.ends], 0.0)
    # The product is the default.
    product = process_reward(LAB, params, separator=SEPARATOR).scores(params, (), batch.trajectory)
    np.testing.assert_allclose(product, jnp.where(batch.ends, paid, 1.0).prod(-1), rtol=1e-5)


def test_steps_are_paid_in_gae_and_an_answer_without_a_score_is_not():
    mask = jnp.array([[[True, True, True]], [[True, True, True]]])
    zeros = jnp.zeros((2, 1, 3))
    rollout = Rollout(Trajectory((), zeros.astype(int), mask), zeros, zeros, mask[..., 0])
    rewards = jnp.array([[[0.5, 0.0, 0.25]], [[jnp.nan, 0.0, 1.0]]])
    scores = jnp.array([[1.0], [jnp.nan]])
    scored = Scored(rollout, scores, zeros - 1.0, step_rewards=rewards)
    config = PPOConfig(beta=0.1, gae_lambda=1.0)
    advantages, returns = jax.jit(partial(gae_of_steps, config=config))(scored, zeros)
    # Each token costs beta (logp - ref_logp) = 0.1: rewards 0.4, -0.1, 0.15 and -0.1 thrice.
    np.testing.assert_allclose(advantages[0, 0], [0.45, 0.05, 0.15], atol=1e-6)
    np.testing.assert_allclose(advantages[1, 0], [-0.3, -0.2, -0.1], atol=1e-6)
    np.testing.assert_array_equal(returns, advantages)
    with pytest.raises(ValueError, match="credit for steps needs a reward of steps"):
        gae_of_steps(scored._replace(step_rewards=None), zeros, config)


def test_a_weighted_sum_pays_scores_of_answers_with_their_last_token():
    mask = jnp.array([[[True, True, False]]])
    trajectory = Trajectory((), mask.astype(int), mask)
    plain = Reward((), lambda *_: ((), {}), lambda p, g, t: jnp.full((1, 1), 3.0))
    steps = plain._replace(steps=lambda p, g, t: jnp.array([[[0.5, 0.25, 0.0]]]))
    both = weighted_reward({"plain": (0.5, plain), "steps": (2.0, steps)})
    given = {"plain": (), "steps": ()}
    assert both.steps is not None
    # 2 * 0.5; 2 * 0.25 + 0.5 * 3.
    np.testing.assert_allclose(both.steps(both.params, given, trajectory), [[[1.0, 2.0, 0.0]]])
    assert weighted_reward({"plain": (0.5, plain)}).steps is None
