"""Pairs of own answers: a prompt that is asked again gives another pair."""

import numpy as np

from rlhf_jax.recipes.pairs import times_before


def test_places_are_counted_by_number():
    np.testing.assert_array_equal(times_before(np.array([5, 7, 5, 5, 7])), [0, 0, 1, 2, 1])
