"""Errors name the first item that cannot be encoded."""

import pytest

from rlhf_jax.recipes.refusals import encode_named, quoted
from rlhf_jax.training import UserError


def doubled(items):
    for i, item in enumerate(items):
        if not isinstance(item, int):
            raise ValueError(f"row {i}: {item!r} is no number")
    return [2 * item for item in items]


def test_the_first_item_that_is_refused_is_named():
    assert encode_named(doubled, [1, 2], ["a", "b"]) == [2, 4]
    with pytest.raises(UserError, match=r"^b: 'x' is no number$"):
        encode_named(doubled, [1, "x", "y"], ["a", "b", "c"])


def test_an_error_that_no_item_has_by_itself_stays_what_it_is():
    def alone(items):
        if len(items) > 1:
            raise ValueError("one at a time")
        return items

    with pytest.raises(ValueError, match="one at a time"):
        encode_named(alone, [1, 2], ["a", "b"])


def test_a_prompt_is_quoted_by_its_last_message():
    assert quoted("2 + 2 ?") == "'2 + 2 ?'"
    assert quoted([{"role": "system", "content": "be brief"}, {"content": "why ?"}]) == "'why ?'"
    assert len(quoted("x" * 100)) == 60
