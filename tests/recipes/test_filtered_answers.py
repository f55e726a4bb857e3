"""PF-PPO: filters in PPO and in policy gradients of groups, on a lab of one logit per word."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import LENGTH, TASK, keyed, probability_of_red, rollout_of, unigram_lab

from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.ops.filtration import (
    best_random_weights,
    best_weights,
    best_worst_weights,
    uniform_weights,
)
from rlhf_jax.recipes import (
    AnswerFilter,
    Fit,
    Scored,
    grpo,
    online,
    ppo,
    prompt_rows,
    rloo,
    task_reward,
)
from rlhf_jax.recipes.methods.answers import filtered_weights
from rlhf_jax.training import open_run, run_stage
from rlhf_jax.types import ValueFn


def values(params, inputs):
    return jnp.broadcast_to(params, (*inputs.ids.shape[:-1], inputs.completion_length))


PLAIN = unigram_lab()
LAB = PLAIN._replace(
    value=ValueFn(lambda key: jnp.zeros(()), values), axes={"policy": (None,), "value": ()}
)
START, CRITIC = LAB.policy.init(None), jnp.zeros(())
CONFIG = PPOConfig(beta=0.0, gae_lambda=1.0)
ANSWERS = np.array([[[4, 5, 6], [5, 6, 7], [7, 7, 4]], [[4, 4, 5], [6, 5, 4], [5, 5, 7]]])
SCORES = jnp.array([[1.0, 2.0, 6.0], [0.0, 4.0, jnp.nan]])


def scored(scores=SCORES):
    rollout = rollout_of(LAB, ANSWERS)
    return Scored(rollout, scores, rollout.token_logps)


def step(method, given):
    """The method's batch, metrics, and gradient after a small move of the policy."""
    params = method.start(START)
    batch, metrics = jax.jit(method.prepare)(params, given)
    moved = jax.tree.map(lambda x: x + 0.03 * jnp.arange(x.size).reshape(x.shape), params)
    slope = jax.jit(jax.grad(lambda p: method.objective(p, batch)[0].value()))(moved)
    return batch, metrics, slope


MAKERS = {
    "ppo": partial(ppo, LAB, CONFIG, CRITIC, samples=3),
    "rloo": partial(rloo, LAB, samples=3),
    "grpo": partial(grpo, LAB, samples=3),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_uniform_filter_changes_no_bit(name):
    plain, kept = (step(MAKERS[name](keep=keep), scored()) for keep in (None, uniform_weights))
    np.testing.assert_array_equal(kept[0].weights, [1, 1, 1, 1, 1, 0])
    jax.tree.map(np.testing.assert_array_equal, kept[2], plain[2])
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(plain[2])) > 0


@pytest.mark.parametrize("name", MAKERS)
def test_a_filter_weighs_answers(name):
    batch, metrics, _ = step(MAKERS[name](keep=best_worst_weights), scored())
    # 3 answers with a score, 1/2 each for the best and the worst; then both of 2.
    np.testing.assert_allclose(batch.weights, [1.5, 0, 1.5, 1, 1, 0])
    assert float(metrics["filter/kept"]) == pytest.approx(4 / 6)
    assert float(metrics["groups/informative"]) == 1.0


@pytest.mark.parametrize("name", MAKERS)
def test_groups_without_a_score_are_filtered_out_and_counted(name):
    nothing = jnp.full((2, 3), jnp.nan)
    method = MAKERS[name](keep=best_weights)
    batch, metrics, slope = step(method, scored(nothing))
    np.testing.assert_array_equal(batch.weights, 0.0)
    assert float(metrics["filter/kept"]) == 0.0
    assert float(metrics["groups/informative"]) == 0.0
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0.0), slope)
    tied, metrics, _ = step(method, scored(jnp.ones((2, 3))))
    np.testing.assert_allclose(tied.weights, 1.0)
    assert float(metrics["groups/informative"]) == 0.0


def test_whitening_before_the_filter_is_over_all_answers():
    method = ppo(LAB, CONFIG, CRITIC, samples=3, keep=best_worst_weights, whiten_first=True)
    batch, _, _ = step(method, scored())
    # A zero critic and lambda 1: each of 3 tokens has the score of its answer. Mean of 1, 2, 6, 0,
    # 4 is 2.6; squares about it 2.56 + 0.36 + 11.56 + 6.76 + 1.96 = 23.2, times 3, over 14.
    white = (np.array([1.0, 2.0, 6.0, 0.0, 4.0]) - 2.6) / np.sqrt(3 * 23.2 / 14)
    np.testing.assert_allclose(batch.advantages[:5], np.tile(white[:, None], LENGTH), rtol=1e-5)
    np.testing.assert_allclose(batch.weights, [1.5, 0, 1.5, 1, 1, 0])
    assert method.divisible


def test_without_a_filter_the_orders_are_one():
    after, before = (
        step(ppo(LAB, CONFIG, CRITIC, samples=3, whiten_first=first), scored())[2]
        for first in (False, True)
    )
    np.testing.assert_allclose(after.policy, before.policy, rtol=1e-4, atol=1e-6)
    kept = [
        step(ppo(LAB, CONFIG, CRITIC, samples=3, keep=best_weights, whiten_first=first), scored())[
            2
        ].policy
        for first in (False, True)
    ]
    assert float(jnp.abs(kept[0] - kept[1]).max()) > 0.01


def test_the_critic_learns_from_kept_answers():
    _, _, slope = step(ppo(LAB, CONFIG, CRITIC, samples=3, keep=best_weights), scored())
    # Values of 0, returns 6 and 4, weights 3 and 2: 0.1 d/dV mean (V - G)^2 / 2 = -0.1 * 26 / 5.
    np.testing.assert_allclose(slope.value, -0.1 * 26 / 5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1, "keep": best_weights}, r"samples must be in \[2, inf\), got 1"),
        ({"samples": 0}, r"samples must be in \[1, inf\), got 0"),
    ],
)
def test_too_few_answers_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ppo(LAB, CONFIG, CRITIC, **options)


def test_an_order_of_whitening_needs_whitening():
    with pytest.raises(ValueError, match="whiten_first is an order of whitening"):
        ppo(LAB, PPOConfig(whiten_advantages=False), CRITIC, whiten_first=True)


def test_weights_of_a_sampler_are_multiplied():
    given = scored()._replace(weights=jnp.array([[2.0, 1.0, 0.5], [1.0, 0.5, 2.0]]))
    plain, kept = filtered_weights(given, None)
    np.testing.assert_array_equal(plain, [[2.0, 1.0, 0.5], [1.0, 0.5, 0.0]])
    assert kept == {}
    weights, kept = filtered_weights(given, best_worst_weights)
    np.testing.assert_allclose(weights, [[3.0, 0.0, 0.75], [1.0, 0.5, 0.0]])
    assert float(kept["filter/kept"]) == pytest.approx(4 / 6)


def test_every_filter_is_a_function_of_scores():
    assert isinstance(best_weights, AnswerFilter)


@pytest.mark.long
@pytest.mark.parametrize("keep", [best_random_weights, best_worst_weights])
@pytest.mark.parametrize("whiten_first", [False, True])
def test_ppo_with_a_filter_makes_the_rewarded_word_likely(keep, whiten_first, tmp_path):
    numbers, fit = prompt_rows(TASK, batch_size=8, seed=0), Fit(optax.adam(0.1), steps=15)
    method = ppo(LAB, CONFIG, CRITIC, samples=4, keep=keep, whiten_first=whiten_first)

    def work(stage):
        args = (TASK, method, task_reward(LAB, TASK), START, numbers, fit)
        return {"params": online(stage, LAB, *args, key=keyed(LAB))}, {}

    with open_run(tmp_path / "run", slug="methods", config={}) as run:
        params = run_stage(run, "online", work).arrays["params"]
    assert probability_of_red(params) > 0.25
