"""Online methods: advantages by hand, identities between methods, and that each of them learns."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from unigram_lab import RED, TASK, keyed, probability_of_red, rollout_of, unigram_lab

from rlhf_jax.losses.group_policy_gradient import dr_grpo_loss, grpo_loss
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.ops.kl import k2, k3
from rlhf_jax.recipes import (
    Fit,
    Penalty,
    Scored,
    answer_method,
    best_of,
    cispo,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    online,
    online_pairs,
    p3o,
    prompt_rows,
    reinforce,
    rloo,
    superhf,
    task_reward,
    top_of_batch,
)
from rlhf_jax.recipes.methods.answers import (
    passes,
    per_token,
    reinforce_answers,
    reinforce_steps,
)
from rlhf_jax.recipes.online_method import flat, same
from rlhf_jax.training import open_run, run_stage

LAB = unigram_lab()
START = LAB.policy.init(None)

METHODS = {
    "reinforce": reinforce(LAB),
    "reinforce of groups": reinforce(LAB, samples=4, kl=Penalty(0.01)),
    "rloo": rloo(LAB, samples=4, kl=Penalty(0.01)),
    "rloo, passes": rloo(LAB, samples=4, clip_eps=0.3, epochs=2, minibatches=2),
    "grpo": grpo(LAB, samples=4, kl=Penalty(0.01, k3)),
    "dr_grpo": dr_grpo(LAB, samples=4),
    "dapo": dapo(LAB, samples=4, overlong_cache=1),
    "gspo": gspo(LAB, samples=4, kl=Penalty(0.01, k2)),
    "cispo": cispo(LAB, samples=4, epochs=2, minibatches=1),
    "best_of": best_of(LAB, samples=4),
    "best_of, KL in the ranking": best_of(LAB, samples=4, kl=0.1, epochs=2, minibatches=2),
    "top_of_batch": top_of_batch(LAB, samples=2),
    "superhf": superhf(LAB, samples=4, beta=0.1),
    "online_pairs": online_pairs(LAB, partial(dpo_loss, beta=0.1)),
    "online_pairs, best and worst": online_pairs(LAB, partial(dpo_loss, beta=0.1), samples=4),
    "p3o": p3o(LAB, beta=0.01),
    "p3o of groups": p3o(LAB, samples=4, weight_clip_eps=0.5),
    "p3o, separate clips": p3o(LAB, joint=False, epochs=2, minibatches=2),
}


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_a_method_makes_the_rewarded_word_likely(name, tmp_path):
    numbers = prompt_rows(TASK, batch_size=8, seed=0)
    fit = Fit(optax.adam(0.1), steps=15)

    def work(stage):
        reward = task_reward(LAB, TASK)
        args = (TASK, METHODS[name], reward, START, numbers, fit)
        return {"params": online(stage, LAB, *args, key=keyed(LAB))}, {}

    with open_run(tmp_path / "run", slug="methods", config={}) as run:
        params = run_stage(run, "online", work).arrays["params"]
    assert probability_of_red(START) == pytest.approx(1 / 8)
    assert probability_of_red(params) > 0.25


# Two prompts, three answers of two tokens; the last answer has no score.
ANSWERS = np.array([[[4, 5], [5, 6], [7, 7]], [[4, 4], [6, 5], [5, 5]]])
SCORES = jnp.array([[1.0, 2.0, 6.0], [0.0, 4.0, jnp.nan]])


def scored(scores=SCORES, answers=ANSWERS, gap=0.0, beta=0.0):
    """`gap` is log pi - log pi_ref of each token."""
    rollout = rollout_of(LAB, answers)
    return Scored(rollout, scores, rollout.token_logps - gap, beta)


@cache
def compiled(method):
    """The method's `prepare`, and the gradient of its objective."""

    def value(params, batch):
        return method.objective(params, batch)[0].value()

    return jax.jit(method.prepare), jax.jit(jax.grad(value))


def prepared(method, given):
    """The method's batch and metrics."""
    return compiled(method)[0](START, given)


def gradient(method, params, batch):
    return compiled(method)[1](params, batch)


SPREAD = 7.0**0.5  # variance of 1, 2, 6 about 3 is (4 + 1 + 9) / 2
ADVANTAGES = {
    # 1 - (2 + 6 + 0 + 4) / 4, 2 - 11/4, 6 - 7/4, 0 - 13/4, 4 - 9/4.
    "reinforce": ([[-2.0, -0.75, 4.25], [-3.25, 1.75, 0.0]], reinforce(LAB, samples=3)),
    # 1 - (2 + 6) / 2, 2 - 7/2, 6 - 3/2; 0 - 4, 4 - 0.
    "rloo": ([[-3.0, -1.5, 4.5], [-4.0, 4.0, 0.0]], rloo(LAB, samples=3)),
    # Minus the means 3 and 2.
    "dr_grpo": ([[-2.0, -1.0, 3.0], [-2.0, 2.0, 0.0]], dr_grpo(LAB, samples=3)),
    # Those over sqrt 7 and over sqrt((4 + 4) / 1) = sqrt 8.
    "grpo": (
        [[-2 / SPREAD, -1 / SPREAD, 3 / SPREAD], [-(0.5**0.5), 0.5**0.5, 0.0]],
        grpo(LAB, samples=3),
    ),
}


@pytest.mark.parametrize("name", ADVANTAGES)
def test_advantages_by_hand(name):
    want, method = ADVANTAGES[name]
    batch, metrics = prepared(method, scored())
    np.testing.assert_allclose(batch.columns["advantages"], np.ravel(want), rtol=1e-4)
    assert batch.weights.tolist() == [1, 1, 1, 1, 1, 0]
    assert batch.answers.actions.tolist() == ANSWERS.reshape(6, 2).tolist()
    assert float(metrics["groups/informative"]) == 1.0


@pytest.mark.parametrize("make", [gspo, cispo, dapo])
def test_the_others_of_its_kind_have_the_advantages_of_grpo(make):
    batch, _ = prepared(make(LAB, samples=3), scored())
    np.testing.assert_allclose(batch.columns["advantages"], np.ravel(ADVANTAGES["grpo"][0]), 1e-4)


def test_a_penalty_in_the_reward_is_taken_off_the_score():
    # Gaps of 0.5 a token, two tokens: 0.3 * 1 off answer 0 of prompt 0, nothing off the others.
    gap = jnp.zeros(ANSWERS.shape).at[0, 0].set(0.5)
    method = rloo(LAB, samples=3, kl=Penalty(0.3))
    batch, _ = prepared(method, scored(gap=gap, beta=method.beta))
    # 0.7 - 4, 2 - 6.7 / 2, 6 - 2.7 / 2.
    np.testing.assert_allclose(batch.columns["advantages"][:3], [-3.3, -1.35, 4.65], rtol=1e-5)


@pytest.mark.long
def test_overlong_answers_are_punished_before_they_are_compared():
    answers = np.full((1, 2, 3), RED)
    rollout = rollout_of(LAB, answers)
    mask = jnp.array([[[True, True, True], [True, True, False]]])
    trajectory = rollout.trajectory.__class__(rollout.trajectory.inputs, answers, mask)
    given = Scored(rollout._replace(trajectory=trajectory), jnp.ones((1, 2)), rollout.token_logps)
    # Length 3 of 3 costs 1, length 2 nothing with a cache of 1: scores 0 and 1, deviation sqrt 0.5.
    batch, metrics = prepared(dapo(LAB, samples=2, overlong_cache=1), given)
    np.testing.assert_allclose(batch.columns["advantages"], [-(0.5**0.5), 0.5**0.5], rtol=1e-3)
    # Dynamic sampling looks at the scores as they were.
    assert float(metrics["groups/informative"]) == 0.0


PAIRS = partial(online_pairs, loss=partial(dpo_loss, beta=0.1))


@pytest.mark.parametrize(
    "make", [rloo, grpo, dr_grpo, dapo, gspo, cispo, best_of, top_of_batch, PAIRS]
)
def test_a_group_of_one_answer_is_refused(make):
    with pytest.raises(ValueError, match=r"samples must be in \[2, inf\), got 1"):
        make(LAB, samples=1)


def test_a_batch_of_one_answer_has_no_baseline():
    method = reinforce(LAB)
    with pytest.raises(ValueError, match="needs at least 2 answers in a batch"):
        method.prepare(START, scored(SCORES[:1, :1], ANSWERS[:1, :1]))


def test_no_answers_are_refused():
    with pytest.raises(ValueError, match=r"samples must be in \[1, inf\), got 0"):
        reinforce(LAB, samples=0)


def test_one_pass_is_a_step_on_the_whole_batch():
    assert passes(1, 1) is None
    assert passes(1, 2) == (1, 2)
    with pytest.raises(ValueError, match="minibatches"):
        passes(1, 0)


def test_a_loss_of_tokens_has_the_advantage_of_the_answer_and_no_padding():
    logps, mask = jnp.array([[-1.0, -2.0, jnp.nan]]), jnp.array([[True, True, False]])
    tokens = per_token(lambda logps, old, advantages: logps * old + advantages)
    np.testing.assert_array_equal(tokens(logps, 2 * logps, jnp.array([3.0]), mask), [[5, 11, 0]])
    # -3 (-1 - 2)
    np.testing.assert_array_equal(reinforce_answers(logps, logps, jnp.array([3.0]), mask), [9.0])


def test_a_method_of_its_own_is_a_loss_and_advantages():
    """A quarter of each score, as they are."""
    method = answer_method(LAB, reinforce_answers, samples=3, advantages=lambda s: s / 4)
    batch, _ = prepared(method, scored(jnp.nan_to_num(SCORES)))
    np.testing.assert_allclose(batch.columns["advantages"], [0.25, 0.5, 1.5, 0.0, 1.0, 0.0])
    assert method.start is method.policy is same
    assert same(START) is START


MOVED = START + 0.1 * jnp.arange(8.0)


def columns_of(method, beta=0.0):
    batch, _ = prepared(method, scored(gap=0.2, beta=beta))
    return batch, flat(scored(gap=0.2).rollout.token_logps)


@pytest.mark.long
def test_grpo_with_k3_is_its_loss():
    method = grpo(LAB, samples=3, kl=Penalty(0.3, k3))
    batch, old = columns_of(method, beta=0.3)

    def loss(params):
        answers = batch.answers
        logps = LAB.policy.logps(params, answers.inputs, answers.actions)
        advantages = batch.columns["advantages"]
        losses = grpo_loss(logps, old, old - 0.2, advantages, answers.mask, clip_eps=0.2, beta=0.3)
        return losses[:5].mean()

    got = method.objective(MOVED, batch)[0]
    np.testing.assert_allclose(float(got), float(loss(MOVED)), rtol=1e-5)
    np.testing.assert_allclose(gradient(method, MOVED, batch), jax.grad(loss)(MOVED), atol=1e-6)


@pytest.mark.long
def test_dr_grpo_is_its_loss():
    method = dr_grpo(LAB, samples=3)
    batch, old = columns_of(method)

    def loss(params):
        answers = batch.answers
        logps = LAB.policy.logps(params, answers.inputs, answers.actions)
        advantages = batch.columns["advantages"]
        losses = dr_grpo_loss(logps, old, advantages, answers.mask, clip_eps=0.2, max_length=3)
        return losses[:5].mean()

    np.testing.assert_allclose(gradient(method, MOVED, batch), jax.grad(loss)(MOVED), atol=1e-6)


@pytest.mark.parametrize("make", [grpo, gspo, cispo])
def test_at_ratio_one_a_clip_leaves_the_policy_gradient_of_token_means(make):
    method = make(LAB, samples=3)
    batch, _ = columns_of(method)

    def surrogate(params):
        answers = batch.answers
        logps = LAB.policy.logps(params, answers.inputs, answers.actions)
        return -(batch.columns["advantages"] * logps.mean(-1))[:5].mean()

    np.testing.assert_allclose(
        gradient(method, START, batch), jax.grad(surrogate)(START), atol=1e-6
    )


def test_dr_grpo_is_rloo_up_to_the_group_and_the_length():
    full = Scored(rollout_of(LAB, ANSWERS), jnp.nan_to_num(SCORES), jnp.zeros(ANSWERS.shape))
    grads = {}
    for make in (dr_grpo, rloo):
        method = make(LAB, samples=3)
        grads[make] = gradient(method, START, prepared(method, full)[0])
    # (G - 1) / G / L_max with G = 3 answers and L_max = 3 tokens.
    np.testing.assert_allclose(grads[dr_grpo], grads[rloo] * 2 / 3 / 3, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("joint", [False, True])
def test_rloo_is_p3o_on_policy(samples, joint):
    answers, scores = ANSWERS[:, :samples], jnp.nan_to_num(SCORES)[:, :samples]
    gap = jnp.linspace(-0.2, 0.3, answers.size).reshape(answers.shape)
    one = rloo(LAB, samples=samples, kl=Penalty(0.3))
    pairs = p3o(LAB, samples=samples, joint=joint, beta=0.3)
    given = scored(scores, answers, gap=gap, beta=0.3)
    got = gradient(one, START, prepared(one, given)[0])
    want = gradient(pairs, START, prepared(pairs, given)[0])
    assert float(jnp.abs(got).max()) > 0.1
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("joint", [False, True])
def test_a_shift_of_a_prompts_scores_changes_no_step_of_p3o(joint):
    method = p3o(LAB, samples=3, joint=joint, clip_eps=0.5, beta=0.3)
    given = scored(gap=0.1, beta=0.3)
    shifted = given._replace(scores=given.scores + jnp.array([[512.0], [-64.0]]))
    grads = [gradient(method, MOVED, prepared(method, x)[0]) for x in (given, shifted)]
    assert float(jnp.abs(grads[0]).max()) > 0.01
    np.testing.assert_allclose(*grads, atol=1e-4)


def test_p3o_counts_groups_that_teach_nothing():
    """Equal scores, one score alone, and no score at all."""
    scores = jnp.array([[1.0, 1.0, 1.0], [2.0, jnp.nan, jnp.nan]])
    method = p3o(LAB, samples=3)
    for given, scored_pairs in ((scores, 0.5), (jnp.full_like(scores, jnp.nan), 0.0)):
        batch, metrics = prepared(method, scored(given))
        assert float(metrics["groups/informative"]) == 0.0
        assert float(metrics["pairs/scored"]) == scored_pairs
        loss, _ = method.objective(MOVED, batch)
        assert float(loss) == 0.0
        np.testing.assert_array_equal(gradient(method, MOVED, batch), 0.0)


def test_online_pairs_count_prompts_that_teach_nothing():
    """Equal scores, one score alone; and no score at all."""
    scores = jnp.array([[1.0, 1.0, 1.0], [2.0, jnp.nan, jnp.nan]])
    method = PAIRS(LAB, samples=3)
    for given in (scores, jnp.full_like(scores, jnp.nan)):
        batch, metrics = prepared(method, scored(given))
        assert float(metrics["pairs/decided"]) == 0.0
        np.testing.assert_array_equal(gradient(method, MOVED, batch), 0.0)
    with pytest.raises(ValueError, match=r"explore must be in \(0, inf\), got 0"):
        PAIRS(LAB, explore=0.0)


def test_p3o_logs_its_clips():
    method = p3o(LAB, samples=3, clip_eps=0.05)
    _, logged = method.objective(MOVED, prepared(method, scored())[0])
    assert set(logged) == {
        "ratios/mean",
        "ratios/separate_clip",
        "ratios/joint_clip",
        "pairs/agreement",
    }
    assert 0 < float(logged["ratios/separate_clip"]) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, r"samples must be in \[2, inf\), got 1"),
        ({"beta": -0.1}, r"beta must be in \[0, inf\)"),
        ({"joint": False, "weight_clip_eps": 0.5}, "V1 has no such weight"),
    ],
)
def test_p3o_names_what_it_cannot_use(options, message):
    with pytest.raises(ValueError, match=message):
        p3o(LAB, **options)


# superhf reads a reference too: tests/recipes/test_selection_methods.py.
GROUPS = [name for name in METHODS if METHODS[name].samples in (2, 4) and name != "superhf"]


@pytest.mark.long
@pytest.mark.parametrize("name", GROUPS)
def test_what_an_answer_without_a_score_says_never_matters(name):
    method, rng = METHODS[name], np.random.default_rng(0)
    answers = rng.integers(4, 8, (2, method.samples, 3))
    scores = jnp.asarray(rng.normal(size=(2, method.samples)), jnp.float32).at[0, 1].set(jnp.nan)
    others = answers.copy()
    others[0, 1] = (others[0, 1] + 1) % 4
    grads = []
    for each, gap in ((answers, 0.1), (others, jnp.full(answers.shape, 0.1).at[0, 1].set(jnp.nan))):
        batch, _ = prepared(method, scored(scores, each, gap=gap, beta=method.beta))
        grads.append(np.asarray(gradient(method, MOVED, batch)))
    assert np.abs(grads[0]).max() > 0
    np.testing.assert_array_equal(*grads)


def test_a_sampler_weighs_answers():
    given = scored()._replace(weights=jnp.array([[0.5, 1.0, 2.0], [1.0, 1.0, 1.0]]))
    batch, _ = prepared(rloo(LAB, samples=3), given)
    assert batch.weights.tolist() == [0.5, 1, 2, 1, 1, 0]


def test_tokens_of_an_answer_have_its_advantage_or_their_own():
    logps, mask = jnp.log(jnp.array([[0.5, 0.25]])), jnp.array([[True, False]])
    loss = per_token(reinforce_steps)

    def gradient(advantages):
        return jax.grad(lambda x: loss(x, logps, advantages, mask).sum())(logps)

    # -A at each counted token, whatever its probability.
    np.testing.assert_array_equal(gradient(jnp.array([3.0])), [[-3.0, 0.0]])
    np.testing.assert_array_equal(gradient(jnp.array([[2.0, 7.0]])), [[-2.0, 0.0]])
