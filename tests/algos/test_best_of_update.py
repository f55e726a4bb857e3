"""Fine-tuning on selected answers: tables, linear policies, a transformer; what is not kept."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import sft
from rlhf_jax.algos.best_of import (
    best_rows,
    make_prior_objective,
    make_prior_update,
    selected_answers,
    top_rows,
)
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.exact.best_of import best_of_law, prior_mixture
from rlhf_jax.losses.supervised import superhf_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.ops.kl import forward_kl
from rlhf_jax.ops.logprobs import mean_logps
from rlhf_jax.ops.masking import masked_mean
from rlhf_jax.ops.selection import Best, Top, best_answers, top_answers
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.policies.linear import linear_policy
from rlhf_jax.policies.tabular import tabular_policy

STATES, ACTIONS = jnp.array([[0, 0, 0], [1, 1, 1]]), jnp.array([[2, 0, 1], [1, 2, 0]])
SCORES = jnp.array([[0.0, 2.0, 1.0], [jnp.nan, jnp.nan, jnp.nan]])


def test_the_selected_answer_of_each_prompt():
    best = best_answers(SCORES)
    batch = selected_answers(bandit_trajectory(STATES, ACTIONS), best)
    assert batch.actions[:, 0].tolist() == [0, 1]
    assert batch.mask[:, 0].tolist() == [True, False]
    assert np.asarray(batch.valid)[:, 0].tolist() == [True, True]
    rows = best_rows({"scores": SCORES, "tokens": jnp.arange(12).reshape(2, 3, 2)}, best)
    assert rows["scores"][0] == 2.0
    assert rows["tokens"].tolist() == [[2, 3], [6, 7]]


def test_the_selected_answers_of_a_batch():
    answers = bandit_trajectory(STATES[:, 0], ACTIONS[:, 0])
    batch = top_rows(answers, top_answers(jnp.array([1.0, jnp.nan]), count=2))
    assert batch.inputs[:, 0].tolist() == [0, 1]
    assert batch.mask[:, 0].tolist() == [True, False]
    kept = top_rows(answers, Top(jnp.array([1]), jnp.array([True])))
    assert kept.actions.tolist() == [[1]]


@pytest.mark.long
@pytest.mark.parametrize(
    "policy",
    [tabular_policy(2, 3), linear_policy(jax.random.normal(jax.random.key(1), (2, 3, 4)))],
    ids=["table", "linear"],
)
def test_a_prompt_without_a_selected_answer_has_no_gradient(policy):
    optimizer = optax.sgd(1.0)
    update = sft.make_update(policy, optimizer)
    state = init_state(policy.init(jax.random.key(0)), optimizer)
    answers = bandit_trajectory(STATES, ACTIONS)
    both, _ = update(state, selected_answers(answers, best_answers(SCORES)))
    alone = bandit_trajectory(STATES[:1, 1], ACTIONS[:1, 1])
    one, metrics = update(state, alone)
    np.testing.assert_allclose(both.params, one.params, atol=1e-6)
    assert float(metrics["loss"].value()) == pytest.approx(np.log(3.0))
    none = Best(jnp.zeros(2, int), jnp.zeros(2, bool), jnp.zeros(2, int))
    still, metrics = update(state, selected_answers(answers, none))
    np.testing.assert_array_equal(still.params, state.params)
    assert float(metrics["loss"].value()) == 0.0


def test_likelihood_of_the_best_of_many_answers_reaches_their_law():
    """A table, 20,000 answers to one prompt in groups of 4: the minimum is the empirical law."""
    logits, scores = jnp.array([[0.0, 1.0, -0.5]]), jnp.array([0.3, -1.0, 2.0])
    draws = jax.random.categorical(jax.random.key(0), logits[0], shape=(20_000, 4))
    batch = selected_answers(
        bandit_trajectory(jnp.zeros_like(draws), draws), best_answers(scores[draws])
    )
    policy, optimizer = tabular_policy(1, 3), optax.sgd(2.0)
    update = jax.jit(sft.make_update(policy, optimizer))
    state = init_state(logits, optimizer)
    for _ in range(200):
        state, _ = update(state, batch)
    law = best_of_law(jax.nn.softmax(logits[0]), scores, n=4)
    np.testing.assert_allclose(jax.nn.softmax(state.params[0]), law, atol=0.01)


CONFIG = TransformerConfig(
    vocab_size=11, d_model=8, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=8
)


def language_answers(rows=3):
    """Two answers of up to four tokens to each prompt, and the selection: none of the third's."""
    ids = jax.random.randint(jax.random.key(0), (rows, 2, 4), 0, 11)
    mask = jnp.ones((rows, 2, 4), bool).at[:, 1, 3].set(False)
    prompts = jnp.full((rows, 2, 2), 1)
    answers = language_trajectory(prompts, jnp.ones_like(prompts, bool), ids, mask)
    scores = jnp.array([[1.0, 0.0], [0.0, 1.0], [jnp.nan, jnp.nan], [1.0, 1.0]])
    return answers, best_answers(scores[:rows])


@pytest.mark.long
def test_a_transformer_learns_the_selected_answers():
    policy, optimizer = language_policy(make_transformer(CONFIG)), optax.adam(0.03)
    answers, best = language_answers()
    batch = selected_answers(answers, best)
    picked = answers.actions[jnp.arange(3), jnp.array([0, 1, 0])]
    np.testing.assert_array_equal(batch.inputs.ids[:, 2:], picked)
    update = jax.jit(sft.make_update(policy, optimizer))
    state = init_state(policy.init(jax.random.key(1)), optimizer)

    def logps(params):
        found = policy.logps(params, answers.inputs, answers.actions)
        return mean_logps(found, answers.mask)

    before = logps(state.params)
    for _ in range(30):
        state, metrics = update(state, batch)
    gain = logps(state.params) - before
    assert np.isfinite(float(metrics["loss"].value()))
    assert gain[0, 0] > gain[0, 1]
    assert gain[1, 1] > gain[1, 0]


@pytest.mark.long
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_superhf_on_a_table_reaches_its_closed_form(beta):
    """As above, with the prior: (q + beta pi_0) / (1 + beta); at beta = 0 it is RAFT's update."""
    logits, scores = jnp.array([[0.0, 1.0, -0.5]]), jnp.array([0.3, -1.0, 2.0])
    draws = jax.random.categorical(jax.random.key(0), logits[0], shape=(20_000, 4))
    batch = selected_answers(
        bandit_trajectory(jnp.zeros_like(draws), draws), best_answers(scores[draws])
    )
    policy, optimizer = tabular_policy(1, 3), optax.sgd(1.0)
    given = AnswerBatch(batch, {"ref_logits": policy.logits(logits, batch.inputs)})
    update = jax.jit(make_prior_update(policy, optimizer, partial(superhf_loss, beta=beta)))
    state = init_state(logits, optimizer)
    first, _ = update(state, given)
    if beta == 0:
        plain, _ = sft.make_update(policy, optimizer)(state, batch)
        np.testing.assert_allclose(first.params, plain.params, atol=1e-6)
    for _ in range(200):
        state, _ = update(state, given)
    probs = jax.nn.softmax(logits[0])
    want = prior_mixture(best_of_law(probs, scores, n=4), probs, beta=beta)
    np.testing.assert_allclose(jax.nn.softmax(state.params[0]), want, atol=0.01)


@pytest.mark.long
def test_the_prior_holds_a_transformer_near_its_reference():
    policy, optimizer = language_policy(make_transformer(CONFIG)), optax.adam(0.03)
    batch = selected_answers(*language_answers())
    params = policy.init(jax.random.key(1))
    given = AnswerBatch(batch, {"ref_logits": policy.logits(params, batch.inputs)})

    def distance(beta):
        loss = partial(superhf_loss, beta=beta)
        update = jax.jit(make_prior_update(policy, optimizer, loss))
        state = init_state(params, optimizer)
        for _ in range(30):
            state, metrics = update(state, given)
        assert np.isfinite(float(metrics["loss"].value()))
        logits = policy.logits(state.params, batch.inputs)
        return float(masked_mean(forward_kl(logits, given.columns["ref_logits"]), batch.mask))

    assert distance(3.0) < 0.5 * distance(0.0)


def test_the_prior_in_micro_batches_is_the_prior_at_once():
    policy, optimizer = language_policy(make_transformer(CONFIG)), optax.sgd(0.1)
    batch = selected_answers(*language_answers(rows=4))
    params = policy.init(jax.random.key(1))
    ref = policy.logits(policy.init(jax.random.key(2)), batch.inputs)
    given = AnswerBatch(batch, {"ref_logits": ref}, jnp.array([1.0, 0.0, 1.0, 1.0]))
    loss = partial(superhf_loss, beta=0.5)
    one, two = (
        make_prior_update(policy, optimizer, loss, parts=parts)(
            init_state(params, optimizer), given
        )
        for parts in (1, 2)
    )
    assert float(one[1]["loss"].value()) == pytest.approx(float(two[1]["loss"].value()), rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one[0].params, two[0].params
    )


def test_a_loss_of_answers_is_refused():
    policy = tabular_policy(1, 3)
    objective = make_prior_objective(policy, lambda z, ref, actions, mask: z.sum((-1, -2)))
    answers = bandit_trajectory(jnp.zeros(2, int), jnp.zeros(2, int))
    with pytest.raises(ValueError, match="one loss per token"):
        objective(jnp.zeros((1, 3)), AnswerBatch(answers, {"ref_logits": jnp.zeros((2, 1, 3))}))
