"""One look for each method, in every figure."""

from itertools import pairwise

import pytest

from rlhf_jax.reports.looks import COLOURS, LOOKS, looks, method_of


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("Hedge", "Hedge"),
        ("Hedge, last policy", "Hedge, last"),
        ("Nash-MD, step 2 / (beta (t + 2))", "Nash-MD"),
        ("Nash-MDX", ""),
        ("OMD (MMD, INPO)", "OMD"),
        ("m = 4", ""),
    ],
)
def test_the_method_of_a_name(name, method):
    assert method_of(name) == method


def test_a_method_looks_the_same_whatever_stands_beside_it():
    alone = looks(["Nash-MP"])["Nash-MP"]
    beside = looks(["a", "b", "OMD", "Nash-MP", "EGPO"])["Nash-MP"]
    assert alone == beside == LOOKS["Nash-MP"]


def test_variants_keep_the_colour_of_their_method():
    found = looks(["INPO, exact", "INPO, sampled", "INPO without KL"])
    assert {look.colour for look in found.values()} == {LOOKS["INPO"].colour}
    assert len({(look.line, look.marker) for look in found.values()}) == 3


def test_unnamed_lines_take_other_colours_than_the_methods():
    found = looks(["m = 1", "OMD", "m = 2"])
    assert found["m = 1"].colour != found["m = 2"].colour
    assert LOOKS["OMD"].colour not in (found["m = 1"].colour, found["m = 2"].colour)


@pytest.mark.parametrize("first", ["0", "OMD, 0"])
def test_many_names_are_told_apart(first):
    names = [first, *(f"{first.rstrip('0')}{i}" for i in range(1, 49))]
    found = list(looks(names).values())
    assert len(set(found)) == 49
    if first == "0":
        assert {look.colour for look in found[:7]} == set(COLOURS)
        assert all(a.line != b.line and a.marker != b.marker for a, b in pairwise(found[:7]))
