"""Rare reactions: fewer negatives with the right intercept, and users who react against others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from rlhf_jax.feedback.signals import reaction_probs, reactions
from rlhf_jax.losses.feedback import binary_loss
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.ops.reactions import kept_reactions, prior_shifted, user_agreement

KEY = jax.random.key(0, impl="rbg")


def test_every_reaction_is_kept_and_a_share_of_the_rest():
    labels = jnp.arange(40_000) % 50 == 0
    kept = np.asarray(kept_reactions(KEY, labels, keep_rate=0.2))
    assert kept[::50].all()
    assert kept[np.asarray(~labels)].mean() == pytest.approx(0.2, abs=0.01)
    assert kept_reactions(KEY, labels, keep_rate=1.0).all()


def test_the_shift_by_hand():
    # 3 of 1003 messages have a heart; a tenth of the others is kept: 3 of 103.
    fitted, true = jnp.log(3 / 100), jnp.log(3 / 1000)
    assert float(prior_shifted(fitted, keep_rate=0.1)) == pytest.approx(float(true), rel=1e-6)
    scores = jnp.array([-1.0, 0.5, 3.0])
    np.testing.assert_array_equal(prior_shifted(scores, keep_rate=1.0), scores)
    shifted = prior_shifted(scores, keep_rate=0.3)
    np.testing.assert_array_equal(jnp.argsort(shifted), jnp.argsort(scores))
    with jax.enable_x64(True):
        found = prior_shifted(jnp.array(np.log(0.03)), keep_rate=0.1)
        assert float(found) == pytest.approx(np.log(0.003), rel=1e-12)


def test_the_shift_is_exact_in_expectation():
    """The minimum on messages that are kept with P = kappa is that on all, log kappa above."""
    values, kappa = jnp.linspace(-2.0, 2.0, 9), 0.15
    probs = jax.nn.sigmoid(-3.0 + 1.5 * values)
    yes, no = jnp.ones(9, bool), jnp.zeros(9, bool)

    def population(theta, keep):
        scores = theta[0] + theta[1] * values
        losses = probs * binary_loss(scores, yes) + keep * (1 - probs) * binary_loss(scores, no)
        return jnp.mean(losses)

    full, fewer = (
        newton_minimum(lambda theta, keep=keep: population(theta, keep), jnp.zeros(2)).params
        for keep in (1.0, kappa)
    )
    np.testing.assert_allclose(full, [-3.0, 1.5], atol=1e-4)
    assert float(fewer[1]) == pytest.approx(1.5, abs=1e-4)
    assert float(prior_shifted(fewer[0], keep_rate=kappa)) == pytest.approx(-3.0, abs=1e-4)


def drawn(users=2000, each=80):
    """Scores and who reacts to them."""
    scores = -2.0 + 1.2 * jax.random.normal(KEY, (users * each,))
    return scores, jnp.repeat(jnp.arange(users), each), users


def test_agreement_is_standard_normal_where_the_model_is_right():
    scores, users, count = drawn()
    labels = reactions(jax.random.fold_in(KEY, 1), jax.nn.sigmoid(scores)).labels
    judge = jax.jit(user_agreement, static_argnames="num_users")
    found = np.asarray(judge(labels, scores, users, num_users=count))
    assert found.mean() == pytest.approx(0.0, abs=0.08)
    assert found.std() == pytest.approx(1.0, abs=0.06)
    assert (found < -2).mean() < 0.05


def test_users_who_love_what_others_do_not_are_below():
    """At any rate of reactions: the intercept is free."""
    scores, users, count = drawn()
    values = scores + 2.0
    for more in (-0.5, 0.0, 1.5):
        probs = reaction_probs(values, jnp.full_like(values, -2.0 + more), beta=-1.0)
        labels = reactions(jax.random.fold_in(KEY, 2), probs).labels
        found = user_agreement(labels, scores, users, num_users=count)
        assert (found < -2).mean() > 0.9
        honest = reaction_probs(values, jnp.full_like(values, -2.0 + more), beta=1.0)
        labels = reactions(jax.random.fold_in(KEY, 3), honest).labels
        assert (user_agreement(labels, scores, users, num_users=count) < -2).mean() < 0.06


def test_agreement_by_hand():
    """Scores log 3 and -log 3: P = 3/4 and 1/4, v = 3/16. One heart in two is as many as the model
    says, so a = 0 and c = 0, and the deviation is sqrt(3/8) log 3."""
    scores, users = jnp.log(3.0) * jnp.array([1.0, -1.0]), jnp.array([0, 0])
    # (1/4) log 3 + (-1/4)(-log 3); then (-3/4) log 3 + (3/4)(-log 3)
    for labels, total in (([True, False], 0.5), ([False, True], -1.5)):
        found = user_agreement(jnp.array(labels), scores, users, num_users=2)
        assert float(found[0]) == pytest.approx(total / np.sqrt(3 / 8), rel=1e-5)
        assert found[1] == 0.0  # no messages
        with jax.enable_x64(True):
            exact = user_agreement(
                jnp.array(labels), np.log(3.0) * jnp.array([1.0, -1.0]), users, num_users=1
            )
            assert float(exact[0]) == pytest.approx(total / np.sqrt(3 / 8), rel=1e-12)


def test_how_much_a_user_reacts_has_a_prior():
    """Hearts for all messages: the most likely a is 1 - sigmoid(a) + 1 - sigmoid(1 + a) = a, and
    not the largest that the steps reach."""
    scores = np.array([0.0, 1.0])
    found = user_agreement(jnp.ones(2, bool), jnp.asarray(scores), jnp.zeros(2, int), num_users=1)
    a = scipy.optimize.brentq(lambda a: scipy.special.expit(-scores - a).sum() - a, 0.0, 2.0)
    probs = scipy.special.expit(scores + a)
    spread = probs * (1 - probs)
    offsets = scores - spread @ scores / spread.sum()
    want = (1 - probs) @ offsets / np.sqrt(spread @ offsets**2)
    assert float(found[0]) == pytest.approx(want, rel=1e-4)


def test_what_does_not_count_never_matters():
    labels, scores = jnp.array([True, False, True]), jnp.array([0.5, -1.0, jnp.nan])
    users = jnp.array([0, 0, 0])
    mask = jnp.array([True, True, False])
    want = user_agreement(labels[:2], scores[:2], users[:2], num_users=1)
    np.testing.assert_array_equal(
        user_agreement(labels, scores, users, num_users=1, mask=mask), want
    )
    # A number that is no user's counts for nobody; a NaN that counts is told.
    strangers = user_agreement(labels, scores, jnp.array([0, 0, 7]), num_users=1)
    np.testing.assert_array_equal(strangers, want)
    assert np.isnan(user_agreement(labels, scores, users, num_users=1)).all()
    order = jnp.array([1, 0])
    np.testing.assert_allclose(
        user_agreement(labels[order], scores[order], users[order], num_users=1), want, rtol=1e-6
    )


@pytest.mark.parametrize("score", [-1.3, 0.1, 0.7, 2.9, 37.1])
@pytest.mark.parametrize("count", [37, 50])
def test_one_score_in_all_messages_says_nothing(score, count):
    """The mean of equal scores is rounded, to another number than theirs for some of these."""
    labels = jnp.arange(count) % 7 == 0
    same = user_agreement(labels, jnp.full(count, score), jnp.zeros(count, int), num_users=1)
    assert same.tolist() == [0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: kept_reactions(KEY, jnp.ones(2, bool), keep_rate=0.0),
            "keep_rate must be in",
        ),
        (lambda: prior_shifted(jnp.ones(2), keep_rate=float("nan")), "keep_rate must be in"),
        (
            lambda: user_agreement(jnp.ones(2, bool), jnp.ones(2), jnp.zeros(2, int), num_users=0),
            r"num_users must be in \[1",
        ),
    ],
)
def test_numbers_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_are_no_numbers():
    with pytest.raises(TypeError):
        kept_reactions(KEY, jnp.ones(2), keep_rate=0.5)
    with pytest.raises(TypeError):
        user_agreement(jnp.ones(2), jnp.ones(2), jnp.zeros(2, int), num_users=1)
