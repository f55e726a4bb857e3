"""Nash-MD policy gradients: KL to go against the exact gradient, in float64, all enumerated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from game_population import all_pairs, pair_weights, random_game, slope

from rlhf_jax.losses.games import nash_md_pg_loss, nash_md_pg_token_loss, online_ipo_v2_loss
from rlhf_jax.losses.policy_gradient import reinforce_loss

SEEDS = pytest.mark.parametrize("seed", [0, 1, 2])
STOP, LETTERS = 0, 3


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def drawn(count, lead=(5,), seed=3):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(x) for x in rng.standard_normal((count, *lead)))


def answers():
    """Every answer of at most two letters, of which 0 ends it: tokens and mask [7, 2]."""
    tokens = [(STOP, 0)] + [(a, b) for a in range(1, LETTERS) for b in range(LETTERS)]
    tokens = np.array(tokens)
    mask = np.stack([np.ones(len(tokens), bool), tokens[:, 0] != STOP], axis=-1)
    return jnp.asarray(tokens), jnp.asarray(mask)


def answer_logps(params):
    """Token log-probs [7, 2] of a policy with logits [3] and, after each letter, [3, 3]."""
    tokens, mask = answers()
    first = jax.nn.log_softmax(params[0])[tokens[:, 0]]
    second = jax.nn.log_softmax(params[1:])[tokens[:, 0], tokens[:, 1]]
    return jnp.where(mask, jnp.stack([first, second], axis=-1), 0.0)


def two_step_game(seed):
    """P [7, 7]; parameters [4, 3] of a policy, a reference and an opponent."""
    game, _ = random_game(seed, size=7)
    params = np.random.default_rng(seed + 10).standard_normal((3, 1 + LETTERS, LETTERS))
    return game, jnp.asarray(params)


def mean_gradient(loss, params, ref, opponent, game, beta):
    """Gradient of the loss averaged over all answers and opponents' answers, exactly."""
    mask = answers()[1]
    ref_logps = answer_logps(ref)
    weights = jnp.exp(answer_logps(params).sum(-1)[:, None] + answer_logps(opponent).sum(-1))

    def mean(params):
        logps = answer_logps(params)
        losses = jax.vmap(lambda prefs: loss(logps, ref_logps, prefs, mask, beta=beta))(game.T)
        return jnp.sum(weights.T * losses)

    return jax.grad(mean)(params)


def exact_gradient(params, ref, opponent, game, beta):
    """Gradient of -E P(y > y') + beta KL(pi || mu), the opponent held fixed."""
    wins = game @ jnp.exp(answer_logps(opponent).sum(-1))
    ref_logps = answer_logps(ref).sum(-1)

    def objective(params):
        logps = answer_logps(params).sum(-1)
        return jnp.sum(jnp.exp(logps) * (beta * (logps - ref_logps) - wins))

    return jax.grad(objective)(params)


def test_nash_md_pg_golden_numbers():
    """beta = 1/2, prefs 1: advantages 1/2 - 1/2 * to-go, to-go (3, 1) or own (2, 1)."""
    token_logps = jnp.array([[-1.0, -2.0, -7.0]])
    ref = token_logps - jnp.array([[2.0, 1.0, jnp.nan]])
    mask = jnp.array([[True, True, False]])
    rest = ref, jnp.array([1.0]), mask

    def run(loss):
        return jax.value_and_grad(lambda x: jnp.sum(loss(x, *rest, beta=0.5)))(token_logps)

    value, grad = run(nash_md_pg_loss)
    np.testing.assert_allclose(grad, [[1.0, 0.0, 0.0]], atol=1e-15)
    np.testing.assert_allclose(value, -1.0)  # -(1/2 - 3/2)(-1) - (1/2 - 1/2)(-2)
    value, grad = run(nash_md_pg_token_loss)
    np.testing.assert_allclose(grad, [[0.5, 0.0, 0.0]], atol=1e-15)
    np.testing.assert_allclose(value, -0.5)


@pytest.mark.long
@SEEDS
def test_kl_to_go_gives_the_exact_gradient_and_own_tokens_do_not(seed):
    game, (params, ref, opponent) = two_step_game(seed)
    arguments = params, ref, opponent, game, 0.3
    want = exact_gradient(*arguments)
    np.testing.assert_allclose(mean_gradient(nash_md_pg_loss, *arguments), want, atol=1e-12)
    own = mean_gradient(nash_md_pg_token_loss, *arguments)
    assert float(jnp.max(jnp.abs(own - want))) > 1e-3
    # What own tokens get wrong is the KL alone.
    free = (*arguments[:-1], 0.0)
    np.testing.assert_allclose(
        mean_gradient(nash_md_pg_token_loss, *free), exact_gradient(*free), atol=1e-12
    )


def test_one_token_answers_have_one_kind_of_credit():
    logps, ref = drawn(2, (5, 1))
    prefs, mask = jnp.linspace(0.0, 1.0, 5), jnp.array([[True]] * 4 + [[False]])
    of = [
        jax.vjp(lambda x, loss=loss: loss(x, ref, prefs, mask, beta=0.3), logps)
        for loss in (nash_md_pg_loss, nash_md_pg_token_loss)
    ]
    np.testing.assert_array_equal(of[0][0], of[1][0])
    np.testing.assert_array_equal(of[0][1](jnp.ones(5))[0], of[1][1](jnp.ones(5))[0])


def test_nash_md_pg_without_a_penalty_is_reinforce():
    logps, ref = drawn(2, (5, 3))
    prefs, mask = jnp.linspace(0.0, 1.0, 5), jnp.ones((5, 3), bool)
    want = reinforce_loss(logps.sum(-1), prefs - 0.5)
    for loss in (nash_md_pg_loss, nash_md_pg_token_loss):
        np.testing.assert_allclose(loss(logps, ref, prefs, mask, beta=0.0), want, rtol=1e-12)


@pytest.mark.long
@SEEDS
def test_self_play_gradient_is_that_of_online_ipo_v2(seed):
    """beta / 4 times it, coordinate by coordinate, in a bandit against itself."""
    game, (ref, policy, *_) = random_game(seed)
    beta = 0.3
    weights = pair_weights(policy)

    def regression(logps):
        pairs = *all_pairs(logps), *all_pairs(ref)
        return jnp.sum(weights * online_ipo_v2_loss(*pairs, game, beta=beta))

    def policy_gradient(logps):
        mask = jnp.ones((4, 4, 1), bool)
        tokens, ref_tokens = all_pairs(logps)[0][..., None], all_pairs(ref)[0][..., None]
        return jnp.sum(weights * nash_md_pg_loss(tokens, ref_tokens, game, mask, beta=beta))

    got, want = slope(policy_gradient, policy), slope(regression, policy)
    np.testing.assert_allclose(got, beta / 4 * want, atol=1e-13)
    assert float(jnp.max(jnp.abs(want))) > 1e-2


@pytest.mark.long
@SEEDS
def test_two_anchors_in_the_reference_give_the_proximal_gradient(seed):
    """Nash-MP: -E P + beta KL(. || mu) + c KL(. || pi_k) as one reference and one weight."""
    game, (params, ref, old) = two_step_game(seed)
    beta, c = 0.3, 0.5
    mixed = (beta * answer_logps(ref) + c * answer_logps(old)) / (beta + c)
    mask = answers()[1]
    weights = jnp.exp(answer_logps(params).sum(-1))
    wins = game @ jnp.exp(answer_logps(old).sum(-1))

    def sampled(params):
        logps = answer_logps(params)
        return jnp.sum(weights * nash_md_pg_loss(logps, mixed, wins, mask, beta=beta + c))

    def exact(params):
        logps = answer_logps(params).sum(-1)
        cost = beta * (logps - answer_logps(ref).sum(-1)) + c * (logps - answer_logps(old).sum(-1))
        return jnp.sum(jnp.exp(logps) * (cost - wins))

    np.testing.assert_allclose(jax.grad(sampled)(params), jax.grad(exact)(params), atol=1e-12)


@pytest.mark.parametrize("loss", [nash_md_pg_loss, nash_md_pg_token_loss])
def test_the_judgement_of_an_empty_answer_never_matters(loss):
    """Not even NaN, for an answer cut before its first token."""
    logps, ref = drawn(2, (2, 3))
    mask = jnp.array([[True, True, False], [False, False, False]])

    def total(logps, prefs):
        losses = loss(logps, ref, prefs, mask, beta=0.3)
        return jnp.sum(losses), losses

    step = jax.grad(total, has_aux=True)
    grad, losses = step(logps, jnp.array([0.8, jnp.nan]))
    want, want_losses = step(logps, jnp.array([0.8, 0.1]))
    np.testing.assert_array_equal(grad, want)
    np.testing.assert_array_equal(losses, want_losses)
    np.testing.assert_array_equal(losses[1], 0.0)
