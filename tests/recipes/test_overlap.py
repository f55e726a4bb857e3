"""Answers drawn one step ahead: the order of calls, the weights, and a resumed run."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import TASK, keyed, unigram_lab

from rlhf_jax.recipes import Fit, dapo, online, prompt_rows, rloo, task_reward
from rlhf_jax.recipes.guards import LateChecks
from rlhf_jax.recipes.lab import hold_params, make_prompts
from rlhf_jax.recipes.online_method import answer_weights, make_prepare
from rlhf_jax.recipes.rewards import known_reward
from rlhf_jax.training import Interrupted, Stage, UserError, open_run, read_metrics, run_stage

LAB = unigram_lab()
START = np.asarray(LAB.policy.init(None))
NUMBERS = prompt_rows(TASK, batch_size=8, seed=0)
METHOD = rloo(LAB, samples=4)


def improve(out, fit, *, method=METHOD, lab=LAB, reward=None, stop=lambda: 0, **options):
    """The params and the metrics of a run."""

    def work(stage):
        paid = reward or task_reward(lab, TASK)
        args = (lab, TASK, method, paid, START, NUMBERS, fit)
        return {"params": online(stage, *args, key=keyed(lab), **options)}, {}

    with open_run(out, slug="overlap", config={}, stop=stop, resume=True) as run:
        params = run_stage(run, "online", work).arrays["params"]
    return np.asarray(params).tolist(), read_metrics(out)


def sgd(rate, **options):
    return Fit(optax.sgd(rate), steps=4, **options)


@pytest.mark.parametrize(
    ("overlap", "calls"), [(False, "draw score draw score"), (True, "draw draw score score")]
)
def test_the_next_answers_are_drawn_before_these_are_scored(tmp_path, overlap, calls):
    seen, reward = [], task_reward(LAB, TASK)

    def draw(*args, **options):
        seen.append("draw")
        return LAB.draw(*args, **options)

    def host(*args):
        seen.append("score")
        return reward.host(*args)

    watched = {"lab": LAB._replace(draw=draw), "reward": reward._replace(host=host)}
    fit = Fit(optax.sgd(0.1), steps=2)
    improve(tmp_path / "run", fit, overlap=overlap, sampler_gap=1e-3, **watched)
    assert " ".join(seen) == calls


def test_without_learning_it_does_not_matter_when_answers_are_drawn(tmp_path):
    (_, off), (_, on) = (
        improve(tmp_path / str(overlap), sgd(0.0), overlap=overlap) for overlap in (False, True)
    )
    for row, other in zip(off, on, strict=True):
        assert row.pop("stage") == other.pop("stage") == "online"
        assert row == pytest.approx(other, rel=1e-5, abs=1e-6)


@pytest.mark.long
def test_an_interrupted_run_with_answers_ahead_ends_as_a_whole_one(tmp_path):
    fit, seen = sgd(0.5, save_every=2), []
    whole = improve(tmp_path / "whole", fit, overlap=True)
    watched = fit._replace(measure=lambda params, i: seen.append(i) or {})
    with pytest.raises(Interrupted):
        improve(tmp_path / "run", watched, overlap=True, stop=lambda: 2 * (len(seen) == 3))
    assert improve(tmp_path / "run", fit, overlap=True) == whole
    assert whole != improve(tmp_path / "fresh", fit)


@pytest.mark.long
def test_older_answers_weigh_the_ratio_of_the_policies():
    """The policy that is trained has moved: e / 1 for red, at most 2 for a whole answer."""
    older, params = jnp.asarray(START), jnp.asarray(START).at[5].add(1.0)
    prompts = make_prompts(LAB, TASK, np.arange(4))
    rollout = LAB.draw(older, prompts, keyed(LAB), 4)
    mask, ids = rollout.trajectory.mask, rollout.trajectory.actions
    prepare = make_prepare(LAB, METHOD, known_reward(), stale=True, compare=True)
    batch, metrics, _ = prepare(params, older, (), jnp.ones((4, 4)), rollout, 0.0)
    now, then = (jnp.where(mask, jax.nn.log_softmax(p)[ids], 0.0) for p in (params, older))
    want = np.minimum(np.exp((now - then).sum(-1)), 2.0)
    np.testing.assert_allclose(batch.weights, want.reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(batch.columns["old_token_logps"], now.reshape(16, -1), rtol=1e-5)
    assert float(metrics["sampler/gap"]) == pytest.approx(float(jnp.abs(now - then).max()))
    np.testing.assert_allclose(answer_weights(rollout), 1.0, rtol=1e-5)


def test_draws_that_depend_on_scores_cannot_be_ahead(tmp_path):
    with pytest.raises(ValueError, match="and dynamic sampling cannot"):
        improve(tmp_path / "run", sgd(0.1), method=dapo(LAB, samples=4), overlap=True)


def test_a_gap_is_found_one_step_late_and_before_the_state_is_saved(tmp_path):
    with open_run(tmp_path / "run", slug="late", config={}) as run:
        checks = LateChecks(Stage(run, "grpo"), 0.1)
        state, batch = {"params": START}, {"x": np.ones(2)}
        checks.see(state, START, batch, 0.5, 0, gap=0.0)
        checks.see(state, START, batch, 0.5, 1, gap=0.3)
        with pytest.raises(UserError, match=r"differ by 0.3 nats .* at step 2, at most 0.1"):
            checks.settle(START)
        checks.settle(START)


def test_held_params_are_on_the_device():
    held = hold_params(LAB, {"a": START}, None)
    assert isinstance(held["a"], jax.Array)
    np.testing.assert_array_equal(held["a"], START)
