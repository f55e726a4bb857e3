"""Limits on mean costs in the online recipe: what is weighed, where it ends, what is kept."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import PROMPTS, RED, keyed, unigram_lab

from rlhf_jax.ops.kl import k3
from rlhf_jax.recipes import (
    CostLimits,
    Fit,
    Penalty,
    Reward,
    dapo,
    online,
    prompt_rows,
    rloo,
    task_reward,
    text_task,
)
from rlhf_jax.recipes.constraints import first_multipliers, named_costs, weigh
from rlhf_jax.training import Interrupted, UserError, open_run, read_metrics, run_stage

LAB = unigram_lab()
START = LAB.policy.init(None)
LIMITS = CostLimits({"harm": 1.0}, rate=0.02, proportional=1.0)


def words(prompts, answers):
    """Red is paid and harmful."""
    reds = [answer.split().count("red") for answer in answers]
    return {"red": reds, "harm": reds}


TASK = text_task(PROMPTS, words, objective="red", heldout=8)
NUMBERS = prompt_rows(TASK, batch_size=8, seed=0)


def improve(out, *, steps=4, method=None, stop=lambda: 0, resume=False, reward=None, **options):
    """The params and the metrics of a run."""
    chosen = method or rloo(LAB, samples=4, kl=Penalty(0.05, k3))

    def work(stage):
        fit = Fit(optax.adam(0.05), steps=steps, save_every=2)
        given = (LAB, TASK, chosen, reward or task_reward(LAB, TASK), START, NUMBERS, fit)
        return {"params": online(stage, *given, key=keyed(LAB), **options)}, {}

    with open_run(out, slug="limits", config={}, stop=stop, resume=resume) as run:
        params = run_stage(run, "online", work).arrays["params"]
    return np.asarray(params), read_metrics(out)


def test_one_step_by_hand():
    limits = CostLimits({"harm": 1.0}, rule="projected", rate=0.5, start=2.0, buffer=4)
    state = first_multipliers(limits)
    scores, costs = jnp.array([[3.0, 1.0]]), jnp.array([[[2.0, 1.0]]])
    found = weigh(limits, state, scores, costs, 0.3)
    # (3 - 2 * 2) / 3 and (1 - 2 * 1) / 3; beta 0.3 / 3; lambda' = 2 + 0.5 (1.5 - 1)
    np.testing.assert_allclose(found.scores, [[-1 / 3, -1 / 3]], rtol=1e-6)
    assert float(found.beta) == pytest.approx(0.1)
    np.testing.assert_allclose(found.state.multipliers, [2.25])
    np.testing.assert_array_equal(found.state.costs, [[0.0, 0.0, 2.0, 1.0]])
    np.testing.assert_array_equal(found.state.known, [[False, False, True, True]])
    assert float(found.metrics["cost/harm"]) == 1.5
    assert float(found.metrics["multiplier/harm"]) == 2.0


def test_a_pessimistic_step_asks_for_less():
    costs = jnp.array([[[2.0, 0.0]]])
    plain, harsh = (
        weigh(limits, first_multipliers(limits), jnp.zeros((1, 2)), costs, 0.1)
        for limits in (LIMITS, LIMITS._replace(inflation=0.5))
    )
    assert harsh.state.multipliers > plain.state.multipliers
    # chat = c + k (c^2 - 2 c m) / (2 s) with m = 1: c = 2 and 0 stay as they are.
    np.testing.assert_allclose(plain.scores, [[-1.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(harsh.scores, [[-1.0, 0.0]], rtol=1e-6)


def test_a_batch_larger_than_the_buffer_leaves_its_last_costs():
    limits = LIMITS._replace(buffer=3)
    costs = jnp.arange(8.0).reshape(1, 2, 4)
    found = weigh(limits, first_multipliers(limits), jnp.zeros((2, 4)), costs, 0.1)
    np.testing.assert_array_equal(found.state.costs, [[5.0, 6.0, 7.0]])


def test_an_answer_without_a_cost_is_left_out_of_the_buffer_too():
    costs = jnp.array([[[2.0, jnp.nan]]])
    found = weigh(LIMITS, first_multipliers(LIMITS), jnp.zeros((1, 2)), costs, 0.1)
    np.testing.assert_array_equal(jnp.isfinite(found.scores), [[True, False]])
    assert float(found.metrics["cost/harm"]) == 2.0
    assert found.state.known.sum() == 1
    # Not (2 + 0) / 2: lambda = 1 + 0.02 (2 - 1) + 1.0 (2 - 1)
    np.testing.assert_allclose(found.state.multipliers, [2.02], rtol=1e-6)


@pytest.mark.parametrize("rule", ["pid", "projected", "log_gradient", "mirror"])
def test_every_rule_raises_the_multiplier_of_a_cost_above_its_limit(rule):
    limits = LIMITS._replace(rule=rule)
    for cost, sign in ((3.0, 1), (0.0, -1)):
        costs = jnp.full((1, 2, 4), cost)
        found = weigh(limits, first_multipliers(limits), jnp.zeros((2, 4)), costs, 0.1)
        assert np.sign(found.state.multipliers[0] - 1.0) == sign


@pytest.mark.long
def test_training_ends_at_the_limit_and_without_one_above_it(tmp_path):
    free, _ = improve(tmp_path / "free", steps=60)
    held, rows = improve(tmp_path / "held", steps=120, limits=LIMITS)
    costs = [row["cost/harm"] for row in rows[-40:]]
    assert np.mean(costs) == pytest.approx(1.0, abs=0.2)
    assert 3 * softmax(free)[RED] > 2.0
    assert abs(3 * softmax(held)[RED] - 1.0) < 0.3
    assert rows[-1]["scores/mean"] == rows[-1]["named/red"]  # the reward's, not less the cost


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


@pytest.mark.long
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    whole, rows = improve(tmp_path / "whole", steps=6, limits=LIMITS)
    calls = iter([0] * 4 + [15] * 100)
    with pytest.raises(Interrupted):
        improve(tmp_path / "cut", steps=6, limits=LIMITS, stop=lambda: next(calls))
    again, resumed = improve(tmp_path / "cut", steps=6, limits=LIMITS, resume=True)
    np.testing.assert_array_equal(again, whole)
    multipliers = [[row["multiplier/harm"] for row in each] for each in (rows, resumed)]
    assert multipliers[0] == multipliers[1]
    assert len(set(multipliers[0])) > 3


def test_a_limit_that_always_holds_is_no_limit_once_its_multiplier_is_0(tmp_path):
    far = CostLimits({"harm": 99.0}, rule="projected", rate=10.0)
    _, rows = improve(tmp_path / "far", steps=3, limits=far)
    assert [row["multiplier/harm"] for row in rows] == [1.0, 0.0, 0.0]


def test_what_it_cannot_weigh_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not with dynamic sampling"):
        improve(tmp_path / "a", method=dapo(LAB, samples=4), limits=LIMITS)
    steps = task_reward(LAB, TASK)._replace(steps=lambda *_: jnp.zeros(()))
    assert isinstance(steps, Reward)
    with pytest.raises(ValueError, match="not of steps or pairs"):
        improve(tmp_path / "b", reward=steps, limits=LIMITS)
    with pytest.raises(UserError, match="limits has 'rude', and the task's scores are"):
        named_costs(CostLimits({"rude": 0.0}), {"harm": np.zeros((2, 2))})
    with pytest.raises(ValueError, match="limits must name a score"):
        first_multipliers(CostLimits({}))
    for change, words in (
        ({"thresholds": {"harm": np.nan}}, "thresholds must"),
        ({"rate": -1.0}, "rate must"),
        ({"inflation": -1.0}, "inflation must"),
        ({"start": 200.0}, "largest must"),
        ({"buffer": 1}, "buffer must"),
    ):
        with pytest.raises(ValueError, match=words):
            first_multipliers(LIMITS._replace(**change))
