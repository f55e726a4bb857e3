"""The entailment loss by hand, and as binary feedback on the log-odds of the verdict."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.feedback import binary_loss, entailment_loss
from rlhf_jax.ops.entailment import check_verdict_ids, entailment_log_odds

LOGITS = jnp.log(jnp.array([[0.5, 0.2, 0.2, 0.1], [0.05, 0.6, 0.05, 0.3]]))
LABELS = jnp.array([True, False])


def test_golden_numbers():
    # P(yes) = 0.2 + 0.1, P(no) = 0.6: -log 0.3 and -log 0.6.
    found = entailment_loss(LOGITS, LABELS, yes=(2, 3), no=(1,))
    np.testing.assert_allclose(found, [1.2039728, 0.5108256], rtol=1e-6)


@pytest.mark.parametrize("x64", [False, True])
def test_it_is_binary_feedback_beside_the_mass_elsewhere(x64):
    """L = binary_loss(r) - log P(yes or no), for both labels; equal where no token is left over."""
    with jax.enable_x64(x64):
        logits = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)) * 3, float)
        labels = jnp.arange(5) % 2 == 0
        for yes, no in (((2, 3), (1,)), ((0, 2), (1, 3))):
            said = {"yes": yes, "no": no}
            odds = entailment_log_odds(logits, **said)
            probs = jax.nn.softmax(logits)[:, np.array(yes + no)].sum(-1)
            expected = binary_loss(odds, labels) - jnp.log(probs)
            found = entailment_loss(logits, labels, **said)
            np.testing.assert_allclose(found, expected, rtol=1e-12 if x64 else 2e-5)
        np.testing.assert_allclose(probs, 1.0, rtol=1e-6)


def test_the_gradient_moves_mass_to_the_right_verdict():
    slopes = jax.grad(lambda x: entailment_loss(x, LABELS, yes=(2, 3), no=(1,)).sum())(LOGITS)
    # softmax - softmax among the right tokens: 0.2 - 2/3 and 0.1 - 1/3; all of 0.6 - 1.
    np.testing.assert_allclose(slopes[0, 2:], [0.2 - 2 / 3, 0.1 - 1 / 3], rtol=1e-5)
    np.testing.assert_allclose(slopes[1, 1], -0.4, rtol=1e-5)


def test_ids_that_mean_nothing_or_both_are_named():
    assert [x.tolist() for x in check_verdict_ids(4, yes=(2, 3), no=[1])] == [[2, 3], [1]]
    for yes, no, message in (
        ((), (1,), r"yes must have ids of tokens in \[0, 4\), got \(\)"),
        ((2,), (4,), r"no must have ids of tokens in \[0, 4\), got \(4,\)"),
        ((2, 1), (1,), r"the tokens \[1\] say both yes and no"),
    ):
        with pytest.raises(ValueError, match=message):
            entailment_loss(LOGITS, LABELS, yes=yes, no=no)
