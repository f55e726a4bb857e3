"""Steps of an answer: where they end, and what their scores come to."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.steps import step_ends, step_minimum, step_product, step_rewards

# One letter a token: x says something, / is a break, . stops, _ is padding.
ENDS = {
    "xx/x.": "..^.^",
    "x//x/x.": "..^.^.^",  # the last of several breaks
    "/x/x.": "..^.^",  # none before the first step
    "x/x/.": ".^..^",  # none after the last
    "x/xx__": ".^.^__",  # cut
    "x": "^",
    "//.": "..^",
    "__": "__",
}


@pytest.mark.parametrize("answer", ENDS)
def test_a_step_ends_at_a_break_between_two_and_at_the_last_token(answer):
    letters = np.array(list(answer))
    found = step_ends(*(jnp.asarray(x) for x in (letters == "/", letters == ".", letters != "_")))
    assert [i for i, end in enumerate(found) if end] == [
        i for i, mark in enumerate(ENDS[answer]) if mark == "^"
    ]


def logit(p):
    return np.log(p / (1 - p))


SCORES = jnp.array([[np.nan, logit(0.5), logit(0.8), 7.0], [1.0, 2.0, np.nan, np.nan]])
MARKS = jnp.array([[False, True, True, False], [False, False, False, False]])


def test_the_product_and_the_minimum_of_steps():
    # 0.5 * 0.8 and min(0.5, 0.8); a row without steps has no score.
    np.testing.assert_allclose(step_product(SCORES, MARKS), [0.4, np.nan], rtol=1e-6)
    np.testing.assert_allclose(step_minimum(SCORES, MARKS), [0.5, np.nan], rtol=1e-6)


def test_one_step_is_its_own_product_and_minimum():
    one = jnp.array([[False, False, True, False]])
    for combine in (step_product, step_minimum):
        np.testing.assert_allclose(combine(SCORES[:1], one), [0.8], rtol=1e-6)


def test_steps_are_paid_where_they_end():
    expected = [[0.0, 0.5, 0.8, 0.0], [0.0] * 4]
    np.testing.assert_allclose(step_rewards(SCORES, MARKS), expected, rtol=1e-6)
