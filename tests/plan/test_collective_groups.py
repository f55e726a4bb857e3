"""Groups of devices as programs write them, and the mesh axes that they lie along."""

import numpy as np
import pytest

from rlhf_jax.plan.groups import axes_of, parse_groups

SHAPE, NAMES = (2, 4), ("fsdp", "model")  # devices 0..3 and 4..7


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("{{0,1},{2,3}}", [[0, 1], [2, 3]]),
        ("[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
        ("mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
        ("mesh['a'=2,'b'=2] {'b','a'}", [[0, 2, 1, 3]]),
        # the second factor of an axis of 4 = 2 x 2: neighbours
        ("mesh['a'=4] {'a':(2)2}", [[0, 1], [2, 3]]),
        ("mesh['a'=4] {'a':(1)2}", [[0, 2], [1, 3]]),
        ("{}", [[0, 1, 2, 3]]),
    ],
)
def test_every_way_to_write_groups_is_read(text, groups):
    np.testing.assert_array_equal(parse_groups(text, 4), groups)


def test_another_way_to_write_groups_is_refused():
    with pytest.raises(ValueError, match="unknown way"):
        parse_groups("ring(4)", 4)


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ([[0, 1, 2, 3], [4, 5, 6, 7]], ("model",)),
        ([[0, 4], [1, 5], [2, 6], [3, 7]], ("fsdp",)),
        ([[0, 1, 2, 3, 4, 5, 6, 7]], ("fsdp", "model")),
        ([[0, 0]], ()),
    ],
)
def test_groups_lie_along_the_axes_in_which_their_devices_differ(groups, axes):
    assert axes_of(np.array(groups), SHAPE, NAMES) == axes
