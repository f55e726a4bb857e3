"""Acquisition rules: brute force, identities, and what they must not depend on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.feedback import queries, query_batches

M, B, D, BETA = 6, 5, 3, 2.0


def normal(seed: int, *shape: int) -> jax.Array:
    """Standard normal numbers, without a program compiled for each shape."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


THETAS, TARGETS, ROOT = normal(0, M, D), normal(1, 7, D), np.asarray(normal(2, D, D))
WEIGHTS = jnp.asarray(np.random.default_rng(3).dirichlet(np.ones(M)), jnp.float32)
OPTIONS, LISTS = normal(4, B, 2, D), normal(5, B, 4, D)
COVARIANCE = jnp.asarray(ROOT @ ROOT.T + 0.1 * np.eye(D, dtype=np.float32))

ENSEMBLE = (
    queries.entropy_of_mean,
    queries.mean_entropy,
    queries.disagreement,
    queries.mutual_information,
    queries.volume_removal,
    queries.least_volume_removal,
)


def of_ensemble(rule):
    return lambda options: rule(queries.member_probs(options, THETAS, beta=BETA), WEIGHTS)


def linear(options):
    x = options[..., 1, :] - options[..., 0, :]
    prefs = jax.nn.sigmoid(BETA * x @ THETAS[0])
    return x, queries.pair_information(prefs, beta=BETA)


def gain(options):
    probs = queries.member_probs(options, THETAS, beta=BETA)
    return queries.policy_gain(probs, WEIGHTS, THETAS, TARGETS)


SCORES = {rule.__name__: of_ensemble(rule) for rule in ENSEMBLE} | {
    "policy_gain": gain,
    "d_optimal": lambda options: queries.d_optimal(*linear(options), COVARIANCE),
    "g_optimal": lambda options: queries.g_optimal(*linear(options), COVARIANCE, TARGETS),
    "v_optimal": lambda options: queries.v_optimal(
        *linear(options), COVARIANCE, TARGETS.T @ TARGETS
    ),
    "closest_margin": lambda options: queries.closest_margin(linear(options)[0] @ THETAS[1]),
}


def all_scores(options):
    """[rules, B]: one program for all rules."""
    return jnp.stack([score(options) for score in SCORES.values()])


compiled = jax.jit(all_scores)


def test_scores_do_not_depend_on_the_order_of_the_items():
    whole = np.asarray(compiled(OPTIONS))
    assert whole.shape == (len(SCORES), B)
    assert whole.std(1).min() > 1e-3
    np.testing.assert_allclose(compiled(OPTIONS[:, ::-1]), whole, rtol=2e-4, atol=2e-6)


@pytest.mark.long
def test_jit_is_eager_and_a_batch_is_a_loop():
    whole = np.asarray(compiled(OPTIONS))
    for name in ("mutual_information", "d_optimal"):
        eager = SCORES[name](OPTIONS)
        np.testing.assert_allclose(eager, whole[list(SCORES).index(name)], rtol=2e-4, atol=2e-6)
    rows = np.concatenate([compiled(OPTIONS[i : i + 1]) for i in range(B)], axis=1)
    np.testing.assert_allclose(rows, whole, rtol=2e-4, atol=2e-6)
    mapped = jax.jit(jax.vmap(all_scores))(OPTIONS[:, None])
    np.testing.assert_allclose(mapped[..., 0].T, whole, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("k", [2, 4])
def test_identical_items_teach_nothing_but_please_volume_removal(k):
    same = jnp.broadcast_to(OPTIONS[:, :1], (B, k, D))
    probs = queries.member_probs(same, THETAS, beta=BETA)
    np.testing.assert_allclose(queries.mutual_information(probs, WEIGHTS), 0.0, atol=1e-6)
    np.testing.assert_allclose(queries.disagreement(probs, WEIGHTS), 0.0, atol=1e-6)
    np.testing.assert_allclose(queries.volume_removal(probs, WEIGHTS), 1 - 1 / k, rtol=1e-5)
    np.testing.assert_allclose(queries.least_volume_removal(probs, WEIGHTS), 1 - 1 / k, rtol=1e-5)
    other = queries.member_probs(LISTS[:, :k], THETAS, beta=BETA)
    assert float(queries.volume_removal(other, WEIGHTS).max()) < 1 - 1 / k
    assert float(queries.mutual_information(other, WEIGHTS).min()) > 1e-3


@pytest.mark.parametrize("options", [OPTIONS, LISTS], ids=["pairs", "lists"])
def test_mutual_information_by_enumeration(options):
    probs = np.asarray(queries.member_probs(options, THETAS, beta=BETA), float)
    joint = np.asarray(WEIGHTS, float)[:, None, None] * probs  # member, query, answer
    answers = joint.sum(0)
    expected = np.zeros(B)
    for m, b, c in np.ndindex(joint.shape):
        independent = float(WEIGHTS[m]) * answers[b, c]
        expected[b] += joint[m, b, c] * np.log(joint[m, b, c] / independent)
    found = queries.mutual_information(jnp.asarray(probs, jnp.float32), WEIGHTS)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    whole = queries.entropy_of_mean(jnp.asarray(probs, jnp.float32), WEIGHTS)
    noise = queries.mean_entropy(jnp.asarray(probs, jnp.float32), WEIGHTS)
    np.testing.assert_allclose(whole - noise, expected, rtol=1e-3)


def test_sure_members_have_finite_scores():
    probs = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    half = jnp.array([0.5, 0.5])
    np.testing.assert_allclose(queries.mutual_information(probs, half), np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(queries.mean_entropy(probs, half), 0.0)
    np.testing.assert_allclose(queries.mutual_information(probs[:1], half[:1] * 2), 0.0)


def test_information_of_a_mixture_of_posteriors():
    half = jnp.array([0.5, 0.5])
    # Answers lead to N(1, 1) and N(-1, 1): variance 1 + 1, so 1/2 log 2 - 0; then variances 1 and
    # 4 around one mean: 1/2 (log 2.5 - log(4) / 2).
    means = jnp.array([[[1.0], [0.0]], [[-1.0], [0.0]]])
    log_variances = jnp.log(jnp.array([[[1.0], [1.0]], [[1.0], [4.0]]]))
    found = queries.mixture_information(means, log_variances, half)
    expected = [0.5 * np.log(2.0), 0.5 * (np.log(2.5) - np.log(2.0))]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # The published rule sees no means: log(2 pi) - log(2 pi) = 0, then log(2.5) - log(4) / 2.
    found = queries.variance_information(log_variances)
    np.testing.assert_allclose(found, [0.0, np.log(2.5) - np.log(2.0)], atol=1e-6)


def test_a_mixture_of_one_posterior_has_nothing_to_tell():
    means, log_variances = normal(8, 1, B, D), normal(9, 1, B, D)
    same = [jnp.repeat(x, M, axis=0) for x in (means, log_variances)]
    np.testing.assert_allclose(queries.mixture_information(*same, WEIGHTS), 0.0, atol=1e-5)
    others = normal(10, M, B, D), normal(11, M, B, D)
    assert np.min(queries.mixture_information(*others, WEIGHTS)) > 0.1
    # An answer of weight 0 never matters, and the order of answers and of dimensions does not.
    first = jnp.zeros(M).at[2].set(1.0)
    np.testing.assert_allclose(queries.mixture_information(*others, first), 0.0, atol=1e-5)
    turned = queries.mixture_information(*(x[::-1, :, ::-1] for x in others), WEIGHTS[::-1])
    np.testing.assert_allclose(turned, queries.mixture_information(*others, WEIGHTS), rtol=1e-4)


def test_disagreement_is_the_standard_deviation_and_volumes_order_alike():
    probs = queries.member_probs(OPTIONS, THETAS, beta=BETA)
    even = jnp.full(M, 1 / M)
    np.testing.assert_allclose(
        queries.disagreement(probs, even), np.std(np.asarray(probs[..., 1]), axis=0), rtol=1e-4
    )
    removed, least = (
        np.asarray(rule(probs, even))
        for rule in (queries.volume_removal, queries.least_volume_removal)
    )
    np.testing.assert_array_equal(removed.argsort(), least.argsort())


def test_optimal_designs_against_whole_matrices():
    x, information = (np.asarray(part, float) for part in linear(OPTIONS))
    covariance, targets = np.asarray(COVARIANCE, float), np.asarray(TARGETS, float)
    before = np.linalg.inv(covariance)
    after = before + information[:, None, None] * x[:, :, None] * x[:, None, :]
    left = np.linalg.inv(after)
    expected = {
        "d_optimal": np.linalg.slogdet(after)[1] - np.linalg.slogdet(before)[1],
        "g_optimal": -np.einsum("ni,bij,nj->bn", targets, left, targets).max(-1),
        "v_optimal": -np.einsum("bij,ij->b", left, targets.T @ targets),
    }
    found = dict(zip(SCORES, compiled(OPTIONS), strict=True))
    for name, scores in expected.items():
        np.testing.assert_allclose(found[name], scores, rtol=1e-3, atol=1e-4)
    added = queries.add_information(COVARIANCE, linear(OPTIONS)[0][0], linear(OPTIONS)[1][0])
    np.testing.assert_allclose(added, left[0], rtol=1e-3, atol=1e-4)


def test_policy_gain_by_enumeration():
    probs = np.asarray(queries.member_probs(OPTIONS, THETAS, beta=BETA), float)
    weights, thetas = np.asarray(WEIGHTS, float), np.asarray(THETAS, float)
    now = (np.asarray(TARGETS) @ (weights @ thetas)).max()
    expected = []
    for b in range(B):
        total = 0.0
        for y in range(2):
            posterior = weights * probs[:, b, y]
            mean = posterior @ thetas / posterior.sum()
            total += posterior.sum() * (np.asarray(TARGETS) @ mean).max()
        expected.append(total - now)
    found = dict(zip(SCORES, compiled(OPTIONS), strict=True))["policy_gain"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert min(expected) > -1e-7  # rounding of the float32 inputs


def test_the_small_rules_by_hand():
    options = jnp.array([[[2.0, 0.0], [0.0, -1.0]]])
    thetas = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    # theta_a loses 2 - 0 by b's best, theta_b loses -1 - 0: item a suits it better.
    found = queries.max_regret(options, thetas, jnp.array([[0.5, 0.25]]))
    np.testing.assert_allclose(found, [0.125 * (2.0 + -1.0)])
    turned = queries.max_regret(options[:, ::-1], thetas[:, ::-1], jnp.array([[0.25, 0.5]]))
    np.testing.assert_allclose(turned, found)
    aged = queries.on_policy(jnp.array([1.0, 1.0]), jnp.array([0.0, 2.0]), decay=2.0)
    np.testing.assert_allclose(aged, [1.0, np.exp(-1.0)], rtol=1e-6)
    shared = queries.per_group(jnp.ones(3), jnp.array([0, 1, 2]), jnp.array([4, 2, 0]))
    np.testing.assert_allclose(shared, [0.25, 0.5, 1.0])
    np.testing.assert_allclose(queries.worst_group(jnp.array([[1.0, 4.0], [3.0, 2.0]])), [1.0, 2.0])
    scores = queries.random_scores(jax.random.key(0), (100,))
    assert 0 <= float(scores.min()) < float(scores.max()) < 1


def test_dueling_pairs():
    features = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]])
    theta, covariance = jnp.array([1.0, 0.5]), jnp.diag(jnp.array([0.01, 1.0]))
    sure = queries.optimistic_pair(features, theta, covariance, jnp.zeros(2), bonus=0.0)
    assert sure.tolist() == [0, 0]
    bold = queries.optimistic_pair(features, theta, covariance, jnp.zeros(2), bonus=2.0)
    assert bold.tolist() == [1, 0]
    draws = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
    assert queries.thompson_pair(features, draws).tolist() == [0, 1]


@pytest.mark.long
def test_top_and_gumbel_top():
    scores = jnp.array([0.1, 0.9, 0.5, 0.9])
    assert query_batches.top(scores, 3).tolist() == [1, 3, 2]
    assert query_batches.top(scores.at[1].set(jnp.nan), 3).tolist() == [3, 2, 0]
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.vmap(lambda key: query_batches.gumbel_top(key, scores, 2, temperature=0.5))(keys)
    assert bool((drawn[:, 0] != drawn[:, 1]).all())
    law = np.asarray(jax.nn.softmax(scores / 0.5))
    first = np.bincount(np.asarray(drawn[:, 0]), minlength=4) / len(drawn)
    np.testing.assert_allclose(first, law, atol=0.012)
    second = sum(law[i] * law / (1 - law[i]) * (np.arange(4) != i) for i in range(4))
    found = np.bincount(np.asarray(drawn[:, 1]), minlength=4) / len(drawn)
    np.testing.assert_allclose(found, second, atol=0.012)
    greedy = query_batches.gumbel_top(keys[0], jnp.array([7.0, 9.0, 8.0]), 3, temperature=1e-38)
    assert greedy.tolist() == [1, 2, 0]


@pytest.mark.long
def test_centres_keep_away_from_copies_turned_copies_and_old_questions():
    x = jnp.array([[1.0, 0.0], [1.0, 0.01], [-1.0, 0.0], [0.0, 1.0], [0.6, 0.6], [9.0, 9.0]])
    scores = jnp.array([5.0, 4.0, 3.0, 2.5, 2.0, 1.0])  # the last is not among the best four
    none = jnp.zeros((0, 2))
    assert query_batches.k_centre(x, scores, none, 2).tolist() == [0, 3]
    asked = jnp.array([[0.0, -1.0]])
    assert query_batches.k_centre(x, scores, asked, 2).tolist()[0] == 0
    assert query_batches.k_centre(x, scores, -asked, 1).tolist() == [0]


@pytest.mark.long
def test_greedy_determinants_by_brute_force():
    x = normal(7, 8, 4)
    kernel = x @ x.T
    found = query_batches.determinantal(kernel, 4).tolist()
    matrix, chosen = np.asarray(kernel, float), []
    for _ in range(4):
        dets = [
            -np.inf if j in chosen else np.linalg.det(matrix[np.ix_([*chosen, j], [*chosen, j])])
            for j in range(8)
        ]
        chosen.append(int(np.argmax(dets)))
    assert found == chosen


def test_a_set_tells_most_together():
    """By enumeration of all answers: members (1, 1), (1, 0), (0, 1) and (0, 0) in what queries 0
    and 2 ask; query 1 is a copy of 0, and query 3 tells nothing."""
    first, other = jnp.array([0.9, 0.9, 0.1, 0.1]), jnp.array([0.8, 0.2, 0.8, 0.2])
    yes = jnp.stack([first, first, other, jnp.full(4, 0.5)], axis=1)  # [M, N]
    probs, weights = jnp.stack([yes, 1 - yes], axis=-1), jnp.full(4, 0.25)

    def together(chosen):
        answers = jnp.einsum("ma,mb->mab", *(probs[:, i] for i in chosen)).reshape(4, 4)
        return float(queries.mutual_information(answers[:, None], weights)[0])

    found = query_batches.informative_set(probs, weights, 2)
    assert found.numbers.tolist() == [0, 2]
    single = queries.mutual_information(probs, weights)
    np.testing.assert_allclose(found.gains[0], single[0], rtol=1e-5)
    np.testing.assert_allclose(found.gains.sum(), together((0, 2)), rtol=1e-5)
    # A copy is asked before a query that tells nothing: its answer has noise of its own.
    every = query_batches.informative_set(probs, weights, 4)
    assert every.numbers.tolist() == [0, 2, 1, 3]
    assert float(every.gains[3]) < 1e-6
    assert together((0, 2)) > together((0, 1)) > float(single[0])
    with pytest.raises(ValueError, match=r"n must be in \[1, 4\], got 5"):
        query_batches.informative_set(probs, weights, 5)
    with pytest.raises(ValueError, match=r"answers must be in \[1, 4096\], got 8192"):
        query_batches.informative_set(jnp.full((1, 20, 2), 0.5), jnp.ones(1), 13)
