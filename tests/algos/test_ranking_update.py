"""The update of ranked lists: by hand, ties and short lists, padding, and what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import ranking
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import all_actions, bandit_trajectory
from rlhf_jax.losses.preference import lipo_loss, pl_dpo_loss, pro_loss, pro_sft_loss, rrhf_loss
from rlhf_jax.losses.reward import plackett_luce_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.policies.linear import linear_policy
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import Trajectory

SGD = optax.sgd(1.0)
POLICY = tabular_policy(1, 3)
PARAMS = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
ANSWERS = bandit_trajectory(*all_actions(1, 3))
SCORES = jnp.array([[0.2, 0.9, 0.5]])


def test_one_step_by_hand():
    """Best first is 1, 2, 0; without temperatures the first contrast is a softmax over all."""
    batch = ranking.rank_lists(ANSWERS, SCORES)
    assert batch.answers.actions[..., 0].tolist() == [[1, 2, 0]]
    np.testing.assert_allclose(batch.scores, [[0.9, 0.5, 0.2]])
    update = ranking.make_update(POLICY, SGD, plackett_luce_loss, reads=())
    state, metrics = jax.jit(update)(init_state(PARAMS, SGD), batch)
    # -log 0.3 - log(0.2 / 0.7); the order 1 > 2 holds, 1 > 0 and 2 > 0 do not
    np.testing.assert_allclose(metrics["loss"].value(), -np.log(0.3 * 0.2 / 0.7), rtol=1e-6)
    np.testing.assert_allclose(metrics["rankings/accuracy"].value(), 1 / 3, rtol=1e-6)
    assert float(metrics["rankings/length"].value()) == 3.0
    # slopes: (0.5, -0.7, 0.2) of the first contrast, (5 / 7, 0, -5 / 7) of the second
    slope = np.array([[0.5 + 5 / 7, -0.7, 0.2 - 5 / 7]])
    np.testing.assert_allclose(PARAMS - state.params, slope, rtol=1e-5)


@pytest.mark.long
def test_the_supervised_term_is_added():
    batch = ranking.rank_lists(ANSWERS, SCORES)
    both = ranking.make_objective(POLICY, pro_loss, sft_weight=0.05)(PARAMS, batch)
    alone = ranking.make_objective(POLICY, pro_loss)(PARAMS, batch)[0].value()
    # 0.05 * 2^2 * -log 0.3
    np.testing.assert_allclose(both[0].value() - alone, 0.2 * -np.log(0.3), rtol=1e-5)
    np.testing.assert_allclose(both[1]["loss/sft"].value(), 0.2 * -np.log(0.3), rtol=1e-6)


@pytest.mark.long
def test_lists_of_unequal_length_ties_and_missing_scores_are_counted():
    scores = jnp.array(
        [[0.2, 0.9, 0.5], [0.4, 0.4, 0.1], [0.3, 0.3, 0.3], [0.1, 0.2, jnp.nan], [0.5, 0.1, 0.2]]
    )
    mask = jnp.ones((5, 3), bool).at[4, 1:].set(False)
    answers = jax.tree.map(lambda x: jnp.broadcast_to(x, (5, *x.shape[1:])), ANSWERS)
    batch = ranking.rank_lists(answers, scores, mask)
    assert np.asarray(batch.weights).tolist() == [1, 1, 0, 1, 0]  # all equal, and one answer
    assert batch.mask.sum(-1).tolist() == [3, 3, 3, 2, 1]
    _, found = ranking.make_objective(POLICY, pro_loss)(PARAMS, batch)
    assert float(found["rankings/decided"].value()) == pytest.approx(0.6)
    assert float(found["rankings/ties"].value()) == pytest.approx(1 / 8)
    assert float(found["rankings/length"].value()) == pytest.approx(8 / 3)
    strict = ranking.rank_lists(answers, scores, mask, ties=False)
    assert strict.mask.sum(-1).tolist() == [3, 2, 1, 2, 1]
    assert np.asarray(strict.weights).tolist() == [1, 1, 0, 1, 0]


@pytest.mark.long
def test_what_does_not_count_reaches_no_gradient():
    """NaN scores, and answers of a list with weight 0 that the policy gives no probability."""
    params = jnp.array([[0.0, 0.0, -jnp.inf], [0.0, 0.0, 0.0]])
    answers = bandit_trajectory(*all_actions(2, 3))
    scores = jnp.array([[0.5, 0.5, jnp.nan], [0.9, 0.1, jnp.nan]])
    batch = ranking.rank_lists(answers, scores)
    update = ranking.make_update(tabular_policy(2, 3), SGD, pro_loss, sft_weight=0.05)
    state, metrics = update(init_state(params, SGD), batch)
    assert np.isfinite(float(metrics["loss"].value()))
    np.testing.assert_array_equal(state.params[0], params[0])
    assert bool(jnp.isfinite(state.params[1]).all())
    assert float(state.params[1, 0]) > 0.0


def test_a_loss_with_a_reference_reads_it_in_the_order_of_the_scores():
    refs = jnp.array([[-0.3, -1.1, -2.0]])
    batch = ranking.rank_lists(ANSWERS, SCORES, ref_logps=refs)
    mask = jnp.ones((1, 3), bool)
    order, logps = jnp.array([1, 2, 0]), jax.nn.log_softmax(PARAMS)
    options = {"logps": sequence_logps}
    for loss, reads, given in (
        (partial(pl_dpo_loss, beta=0.5), ("ref_logps",), (refs[:, order],)),
        (
            partial(lipo_loss, beta=0.5),
            ("ref_logps", "scores"),
            (refs[:, order], SCORES[:, order]),
        ),
        (rrhf_loss, ("scores",), (SCORES[:, order],)),
    ):
        objective = ranking.make_objective(POLICY, loss, reads=reads, **options)
        found = objective(PARAMS, batch)[0].value()
        np.testing.assert_allclose(found, loss(logps[:, order], *given, mask)[0], rtol=1e-6)
    without = ranking.rank_lists(ANSWERS, SCORES)
    objective = ranking.make_objective(POLICY, partial(pl_dpo_loss, beta=0.5), reads=("ref_logps",))
    with pytest.raises(ValueError, match="the batch has no ref_logps"):
        objective(PARAMS, without)


def test_one_answer_is_no_ranking():
    one = jax.tree.map(lambda x: x[:, :1], ANSWERS)
    with pytest.raises(ValueError, match=r"two or more answers .* got answers \[1, 1\]"):
        ranking.rank_lists(one, SCORES[:, :1])
    with pytest.raises(ValueError, match=r"got answers \[1, 3\] and scores \[1, 2\]"):
        ranking.rank_lists(ANSWERS, SCORES[:, :2])


@pytest.mark.long
def test_means_are_read_and_sums_imitated():
    """Two tokens of an answer: the loss has half of its log-prob, the supervised term all."""
    actions = jnp.array([[[0, 0], [1, 1]]])
    answers = Trajectory(0 * actions, actions, jnp.ones((1, 2, 2), bool))
    batch = ranking.rank_lists(answers, jnp.array([[0.7, 0.2]]))
    found = ranking.make_objective(POLICY, pro_loss, sft_weight=1.0)(PARAMS, batch)[1]
    np.testing.assert_allclose(found["loss/sft"].value(), -2 * np.log(0.5), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("parts", [1, 2])
def test_a_linear_policy_learns_the_order_of_the_scores(parts):
    features = jax.random.normal(jax.random.key(0), (8, 4, 3))
    scores = jax.nn.sigmoid(features @ jnp.array([1.0, -2.0, 0.5]))
    policy, optimizer = linear_policy(features), optax.sgd(0.5)
    batch = ranking.rank_lists(bandit_trajectory(*all_actions(8, 4)), scores)
    update = jax.jit(ranking.make_update(policy, optimizer, pro_loss, parts=parts))
    state = init_state(jnp.zeros(3), optimizer)
    for _ in range(60):
        state, metrics = update(state, batch)
    assert float(metrics["rankings/accuracy"].value()) > 0.95


@pytest.mark.long
@pytest.mark.parametrize(("loss", "reads"), [(pro_loss, ("scores",)), (plackett_luce_loss, ())])
def test_a_transformer_learns_a_ranking_of_strings(loss, reads):
    """Strings of 8 symbols, 4 to a prompt, ranked by how often they have symbol 1."""
    size = TransformerConfig(
        vocab_size=6, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=32
    )
    policy, optimizer = language_policy(make_transformer(size)), optax.adam(3e-3)
    key = jax.random.key(0)
    ids = jax.random.randint(key, (16, 4, 8), 0, 4)
    prompts = jnp.broadcast_to(jnp.arange(16)[:, None, None] % 2 + 4, (16, 4, 1))
    mask = jnp.arange(8) < jax.random.randint(key, (16, 4, 1), 5, 9)
    trajectory = language_trajectory(prompts, jnp.ones_like(prompts, bool), ids, mask)
    scores = jnp.mean(ids == 1, axis=-1, where=mask)
    batch = ranking.rank_lists(trajectory, scores, ties=bool(reads))
    update = jax.jit(ranking.make_update(policy, optimizer, loss, reads=reads, sft_weight=1e-3))
    state = init_state(policy.init(jax.random.key(1)), optimizer)
    accuracies = []
    for _ in range(80):
        state, metrics = update(state, batch)
        accuracies.append(float(metrics["rankings/accuracy"].value()))
    assert accuracies[0] < 0.75
    assert accuracies[-1] > 0.9
    token_logps, _ = ranking.ranking_logps(policy, state.params, batch)
    # What lies behind the end of an answer is never read.
    behind = language_trajectory(prompts, jnp.ones_like(prompts, bool), ids * mask, mask)
    again = ranking.rank_lists(behind, scores, ties=bool(reads))
    other, _ = ranking.ranking_logps(policy, state.params, again)
    np.testing.assert_allclose(other, token_logps, atol=1e-5)
    sums = mean_logps(token_logps, batch.answers.mask)
    assert sums.shape == (16, 4)
    assert bool(jnp.all(pro_sft_loss(sums, batch.mask) >= 0))
