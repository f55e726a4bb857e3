"""Which estimators are unbiased: exact moments in worlds whose every outcome is listed."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import enumeration as worlds
from benchmarks import estimators
from rlhf_jax.ops import kl
from rlhf_jax.ops.groups import group_normalised_advantages

EXACT = 1e-10


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_moments_golden_numbers():
    # mean 0.25 * 1 + 0.75 * 3 = 2.5, variance 0.25 * 2.25 + 0.75 * 0.25 = 0.75, exact value 2
    found = worlds.moments(np.array([0.25, 0.75]), np.array([1.0, 3.0]), np.array(2.0))
    np.testing.assert_allclose(found, (0.25, np.sqrt(0.75) / 2, 1.0), rtol=1e-14)
    # means (1, 1) against (0, 2): off by sqrt 2, of length 2; both components have variance 1
    estimates = np.array([[0.0, 2.0], [2.0, 0.0]])
    found = worlds.moments(np.array([0.5, 0.5]), estimates, np.array([0.0, 2.0]))
    np.testing.assert_allclose(found, (np.sqrt(0.5), np.sqrt(0.5), np.sqrt(0.5)), rtol=1e-14)


@pytest.mark.parametrize("forward", [False, True])
def test_the_exact_kl_and_its_gradient_are_the_closed_forms(forward):
    logits = worlds.REF_LOGITS + 2.0 * worlds.DIRECTION
    logps, ref_logps = log_softmax(logits), log_softmax(worlds.REF_LOGITS)
    p, q = np.exp(logps), np.exp(ref_logps)
    value = q @ (ref_logps - logps) if forward else p @ (logps - ref_logps)
    slope = p - q if forward else p * (logps - ref_logps - value)
    found = worlds.one_step(2.0).exact(forward=forward)
    np.testing.assert_allclose(found[0], value, rtol=1e-12)
    np.testing.assert_allclose(found[1], slope, atol=1e-14)


@pytest.mark.long
@pytest.mark.parametrize("distance", [0.1, 1.0, 3.0])
def test_values_of_the_kl(distance):
    world = worlds.one_step(distance)
    for estimator in (kl.k1, kl.k3, kl.reverse_kl_surrogate):
        assert abs(worlds.value_moments(world, estimator).bias) < EXACT
    assert abs(worlds.value_moments(world, kl.forward_kl_surrogate, forward=True).bias) < EXACT
    assert worlds.value_moments(world, kl.k2).bias > 0.009


def test_k3_has_the_smaller_spread_near_the_reference_only():
    stds = [
        [worlds.value_moments(worlds.one_step(x), k).std for k in (kl.k1, kl.k2, kl.k3)]
        for x in (0.1, 4.0)
    ]
    assert stds[0][2] < 0.1 * stds[0][0]
    assert stds[1][2] > 2.0 * max(stds[1][:2])


@pytest.mark.parametrize("distance", [0.1, 1.0, 3.0])
def test_gradients_of_the_kl(distance):
    world = worlds.one_step(distance)
    for loss in (kl.reverse_kl_surrogate, kl.score_function_kl_surrogate, kl.k2):
        assert worlds.gradient_moments(world, loss).bias < EXACT
        assert worlds.gradient_moments(world, loss, forward=True).bias > 0.02
    for loss in (kl.forward_kl_surrogate, kl.k3):
        assert worlds.gradient_moments(world, loss, forward=True).bias < EXACT
        assert worlds.gradient_moments(world, loss).bias > 0.02
    nothing = worlds.gradient_moments(world, kl.k1)
    np.testing.assert_allclose(nothing.bias, 1.0, atol=EXACT)
    assert nothing.std > 0.5  # noise about a mean of zero


def test_the_kl_of_answers_is_that_of_the_listed_laws():
    paths = list(product(range(2), repeat=3))
    laws = []
    for logits in (worlds.TREE_LOGITS, worlds.TREE_REF_LOGITS):
        table = log_softmax(logits)
        # prefixes: none; 0, 1; 00, 01, 10, 11
        laws.append([table[0][a] + table[1 + a][b] + table[3 + 2 * a + b][c] for a, b, c in paths])
    logps, ref_logps = np.array(laws)
    np.testing.assert_allclose(np.exp(logps).sum(), 1.0, rtol=1e-12)
    pair = (jnp.asarray(x) for x in (worlds.TREE_LOGITS, worlds.TREE_REF_LOGITS))
    found = worlds.answer_kl(*pair)
    np.testing.assert_allclose(found, np.exp(logps) @ (logps - ref_logps), rtol=1e-12)


def test_values_of_the_kl_of_answers_add_over_tokens():
    found = [worlds.answer_value_moments(one) for one in worlds.ANSWER_VALUES.values()]
    assert all(abs(one.bias) < EXACT for one in found)
    summed, _, tokens, exact_steps = (one.std for one in found)
    assert exact_steps < tokens < summed


@pytest.mark.long
def test_gradients_of_the_kl_of_answers_do_not():
    found = [worlds.answer_gradient_moments(one) for one in worlds.ANSWER_GRADIENTS.values()]
    whole, to_go, *partial = found
    assert whole.bias < EXACT
    assert to_go.bias < EXACT
    assert to_go.std < whole.std
    assert all(one.bias > 0.1 for one in partial)


UNBIASED_ADVANTAGES = {
    "no baseline (REINFORCE)",
    "exact value of the prompt",
    "leave one out (RLOO)",
    "greedy answer (ReMax)",
}


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 5])
def test_advantages_of_groups(size):
    found = worlds.group_moments(size)
    for name, one in found.items():
        assert (one.bias < EXACT) == (name in UNBIASED_ADVANTAGES), name
    centred, left_out = found["mean of the group (Dr. GRPO)"], found["leave one out (RLOO)"]
    # R_i stands in its own baseline: one part in K of the gradient is lost, one in 2 K of both
    np.testing.assert_allclose(centred.bias, 1.0 / size, atol=EXACT)
    np.testing.assert_allclose(found["mean of the batch"].bias, 0.5 / size, atol=EXACT)
    np.testing.assert_allclose(centred.cosine, 1.0, atol=EXACT)
    np.testing.assert_allclose(left_out.std, centred.std * size / (size - 1), rtol=1e-10)
    assert found["group normalised (GRPO)"].cosine < 0.97
    assert 0.97 < found["batch whitened"].cosine < 1.0 - 1e-4


@pytest.mark.long
def test_a_group_stands_for_all_its_orders():
    """GRPO's mean gradient at K = 3 from all 729 pairs of ordered groups, with loops."""
    logps = log_softmax(worlds.GROUP_LOGITS)
    probs, mean, exact = np.exp(logps), np.zeros((2, 3)), np.zeros((2, 3))
    for prompt in range(2):
        scores = worlds.GROUP_SCORES[prompt]
        exact[prompt] = 0.5 * probs[prompt] * (scores - probs[prompt] @ scores)
        for group in product(range(3), repeat=3):
            drawn = jnp.asarray(scores[list(group)])
            advantages = np.asarray(group_normalised_advantages(drawn))
            onehots = np.eye(3)[list(group)]
            grads = advantages @ (onehots - probs[prompt]) / 6.0
            mean[prompt] += np.prod(probs[prompt][list(group)]) * grads
    bias = np.linalg.norm(mean - exact) / np.linalg.norm(exact)
    found = worlds.group_moments(3)["group normalised (GRPO)"]
    np.testing.assert_allclose(found.bias, bias, rtol=1e-8)
    np.testing.assert_allclose(worlds.groups(3)[1].sum(), 1.0, rtol=1e-12)


def test_values_of_the_tree_are_means_over_its_paths():
    logits = jnp.asarray(worlds.TREE_LOGITS)
    probs = worlds.path_probs(logits)
    totals = worlds.TREE_REWARDS[worlds.PREFIXES, worlds.PATHS].sum(-1)
    values = worlds.tree_values(logits)
    np.testing.assert_allclose(values[0], probs @ totals, rtol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("kind", ["right", "wrong", "none"])
def test_gae(kind, gae_lambda):
    value, gradient = worlds.gae_moments(kind, gae_lambda)
    exact = kind == "right" or gae_lambda == 1.0
    assert (abs(value.bias) < EXACT) == exact
    assert (gradient.bias < EXACT) == exact
    assert exact or (abs(value.bias) > 1e-3 and gradient.bias > 0.01)


@pytest.mark.long
def test_gae_buys_spread_with_lambda():
    stds = [[moment.std for moment in worlds.gae_moments("right", x)] for x in (0.0, 0.5, 1.0)]
    assert stds == sorted(stds)
    assert stds[0][1] < 0.8 * stds[2][1]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_vtrace(kind):
    spreads = []
    for clip in (1.0, 2.0, np.inf):
        value, gradient = worlds.vtrace_moments(kind, clip)
        assert (abs(value.bias) < EXACT) == (clip == np.inf)
        assert (gradient.bias < EXACT) == (clip == np.inf)
        spreads.append((value.std, gradient.std))
    assert spreads == sorted(spreads)
    uncorrected, _ = worlds.vtrace_moments(kind, None)
    assert abs(uncorrected.bias) > 0.1


def test_the_fixed_point_of_vtrace():
    value, _ = worlds.vtrace_moments("right", 1.0, target="clipped")
    assert abs(value.bias) < EXACT


def test_the_check_sees_words_and_numbers_but_not_the_last_digit():
    page = "| k1 | yes | 0 | 31.99 |\n| k2 | no | 0.1078 | 1.173 |\n"
    assert estimators.difference(page, page) == ""
    assert estimators.difference(page, page.replace("1.173", "1.174")) == ""
    changes = [("1.173", "1.19"), ("yes", "no"), ("| 0 |", "| 1e-09 |"), ("31.99", "31.99 | 1")]
    for old, new in changes:
        assert estimators.difference(page, page.replace(old, new)).startswith("line ")
    assert estimators.difference("", page).startswith("line 1: file has ''")
    assert estimators.difference(page + "more", page).startswith("line 3")


def test_check_writes_nothing_and_says_what_differs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(estimators, "DOCS", tmp_path)
    monkeypatch.setattr(estimators, "page", lambda: "a page with 1.5\n")
    assert estimators.main(["--check"]) == 1
    assert "file has '', code gives 'a page with 1.5'" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "estimators.md").write_text("a page with 1.501\n")
    assert estimators.main(["--check"]) == 0


@pytest.mark.slow
def test_the_page_in_docs_is_what_the_code_gives():
    written = (estimators.DOCS / "estimators.md").read_text()
    assert estimators.difference(written, estimators.page()) == ""
