"""A language model's verdicts: those of the policy, in both orders, padding, leading axes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.losses.feedback import order_bias, verdict_margins
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_policy, language_trajectory, pair_row
from rlhf_jax.policies.verdicts import language_verdicts

CONFIG = TransformerConfig(
    vocab_size=12, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=24
)
MODEL = make_transformer(CONFIG)
SEPARATOR, A, B = 1, 10, 11
JUDGE = language_verdicts(MODEL, separator=SEPARATOR, verdicts=(A, B))
PARAMS = random_params(JUDGE.init)
LOGPS = jax.jit(JUDGE.logps)


def padded(rows, width, side):
    """Ids and mask, padding of id 9 on the left or on the right."""
    ids, mask = np.full((len(rows), width), 9), np.zeros((len(rows), width), bool)
    for b, row in enumerate(rows):
        place = slice(width - len(row), None) if side == "left" else slice(len(row))
        ids[b, place], mask[b, place] = row, True
    return jnp.asarray(ids), jnp.asarray(mask)


def answers(prompts, rows, prompt_width=4, width=3):
    return language_trajectory(
        *padded(prompts, prompt_width, "left"), *padded(rows, width, "right")
    )


PROMPTS = [[2, 3], [4, 5, 6, 7], [8]]
FIRST, SECOND = [[2], [3, 4, 5], [6, 7]], [[5, 5, 2], [4], [8, 2]]
PAIR = answers(PROMPTS, FIRST), answers(PROMPTS, SECOND)
WANT = LOGPS(PARAMS, *PAIR)


def test_verdicts_are_the_next_token_of_the_policy():
    """log pi(A | x y separator y') by `language_policy`, the verdict as an answer of one token."""
    policy = jax.jit(language_policy(MODEL).logps)
    for row in range(3):
        for order, (y, z) in enumerate(((FIRST, SECOND), (SECOND, FIRST))):
            asked = jnp.array([[*PROMPTS[row], *y[row], SEPARATOR, *z[row]]] * 2)
            said = jnp.array([[A], [B]])
            rows = language_trajectory(asked, asked > 0, said, said > 0)
            found = policy(PARAMS, rows.inputs, rows.actions)[:, 0]
            np.testing.assert_allclose(WANT[row, order], found, atol=1e-5)
    assert WANT.shape == (3, 2, 2)
    assert WANT.dtype == jnp.float32


def test_exchanging_the_answers_exchanges_the_orders():
    other = LOGPS(PARAMS, *PAIR[::-1])
    np.testing.assert_array_equal(other, WANT[:, ::-1])
    np.testing.assert_array_equal(verdict_margins(other), -verdict_margins(WANT))
    np.testing.assert_array_equal(order_bias(other), order_bias(WANT))
    assert float(jnp.min(jnp.abs(order_bias(WANT)))) > 1e-4  # an untrained judge has a bias


@pytest.mark.long
def test_padding_does_not_matter_and_leading_axes_are_free():
    wide = answers(PROMPTS, FIRST, 7, 5), answers(PROMPTS, SECOND, 7, 6)
    np.testing.assert_allclose(LOGPS(PARAMS, *wide), WANT, atol=1e-5)
    stacked = jax.tree.map(lambda x: jnp.stack([x, x], axis=1), PAIR)
    np.testing.assert_allclose(LOGPS(PARAMS, *stacked)[:, 1], WANT, atol=1e-5)
    each = jax.vmap(partial(JUDGE.logps, PARAMS))(*PAIR)
    np.testing.assert_allclose(each, WANT, atol=1e-5)


def test_a_row_has_the_answers_parted_by_the_separator():
    row = pair_row(PAIR[0].inputs, PAIR[1].inputs, SEPARATOR)
    kept = np.asarray(row.inputs.ids[1])[np.asarray(row.inputs.segments[1]) > 0]
    assert kept.tolist() == [4, 5, 6, 7, 3, 4, 5, SEPARATOR, 4]
    assert int(row.mask.sum()) == 6 + 6 + 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdicts": (10, 10)}, "two verdicts need two tokens, got 10 for both"),
        ({"verdicts": (10, 12)}, r"second must be in \[0, 12\)"),
        ({"separator": -1}, r"separator must be in \[0, 12\)"),
    ],
)
def test_tokens_that_do_not_exist_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        language_verdicts(MODEL, **({"separator": 1, "verdicts": (10, 11)} | change))
