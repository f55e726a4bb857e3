"""Contexts and targets of users: nothing in both, nobody lost in silence."""

import numpy as np
import pytest

from rlhf_jax.data.users import TooFewComparisons, comparisons_per_user, user_groups, user_sets

USERS = ["ann"] * 5 + ["bob"] * 2 + ["ann"] + ["cleo"] * 3


def test_rows_are_their_own_and_never_in_both_sets():
    sets = user_sets(USERS, context=3, targets=2, seed=0)
    assert sets.users == ("ann", "bob", "cleo")
    assert sets.dropped == 0
    np.testing.assert_array_equal(sets.context_mask.sum(1), [3, 1, 2])
    np.testing.assert_array_equal(sets.targets_mask.sum(1), [2, 1, 1])
    for i, user in enumerate(sets.users):
        context = sets.context[i][sets.context_mask[i]]
        targets = sets.targets[i][sets.targets_mask[i]]
        both = [*context, *targets]
        assert len(set(both)) == len(both)
        assert {USERS[row] for row in both} == {user}


def test_the_sets_depend_on_the_seed_alone():
    one, same, other = (user_sets(USERS, context=3, targets=2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.context, same.context)
    assert (one.context != other.context).any()


def test_a_user_with_a_single_comparison_is_named():
    with pytest.raises(
        TooFewComparisons, match=r"2 of 5 users have a single comparison \('dan', 7\)"
    ):
        user_sets([*USERS, "dan", 7], context=3, targets=2, seed=0)
    assert issubclass(TooFewComparisons, ValueError)


def test_it_can_be_dropped_and_is_counted():
    sets = user_sets([*USERS, "dan"], context=3, targets=2, seed=0, single="drop")
    assert sets.users == ("ann", "bob", "cleo")
    assert sets.dropped == 1


def test_many_are_named_in_short():
    with pytest.raises(TooFewComparisons, match=r"9 of 9 users .*\(0, 1, 2, \.\.\.\)"):
        user_sets(range(9), context=1, targets=1, seed=0)


def test_nobody_left_is_an_error():
    with pytest.raises(ValueError, match="no user has two comparisons: 2 users, 2 rows"):
        user_sets("ab", context=1, targets=1, seed=0, single="drop")
    with pytest.raises(ValueError, match="no user has two comparisons: 0 users, 0 rows"):
        user_sets([], context=1, targets=1, seed=0)


def test_sizes_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"context must be in \[1, inf\)"):
        user_sets(USERS, context=0, targets=1, seed=0)
    with pytest.raises(ValueError, match=r"seed must be in \[0, inf\)"):
        user_sets(USERS, context=1, targets=1, seed=-1)


def test_counts_of_comparisons():
    assert comparisons_per_user(USERS) == {2: 1, 3: 1, 6: 1}


def test_users_and_their_groups():
    found = user_groups(["ann", 7, "ann", "eve", "bob"], ["old", "new", "old", "new", "old"])
    assert found == {"ann": "old", 7: "new", "eve": "new", "bob": "old"}


@pytest.mark.parametrize(
    ("users", "groups", "message"),
    [
        (["ann", "bob", "ann"], ["a", "a", "b"], "user 'ann' is in two groups, 'a' and 'b'"),
        (["ann", "bob", "eve"], ["a", "a", "b"], r"1 groups have one user \('b'\)"),
        (["ann"], ["a", "a"], "1 rows name a user and 2 a group"),
    ],
)
def test_users_who_are_in_no_proper_group_are_named(users, groups, message):
    with pytest.raises(ValueError, match=message):
        user_groups(users, groups)
