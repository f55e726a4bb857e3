"""The comparison of results: what counts as the same, and that anything else is seen."""

import json

import pytest

from benchmarks.same_numbers import compare, differences

SUMMARY = {
    "slug": "toy",
    "seconds": 1.0,
    "size": "quick",
    "claims": [{"value": 0.1, "interval": [0.0, 0.2]}],
    "numbers": {"size": 3, "methods": {"SFT": {"gold": 0.5, "seconds": 2.0}}, "none": float("nan")},
}


def changed(path, value):
    """The summary with one entry changed."""
    copy = json.loads(json.dumps(SUMMARY))
    place = copy
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return copy


def test_seconds_and_the_name_of_the_size_are_no_difference():
    for path in (("seconds",), ("size",), ("numbers", "methods", "SFT", "seconds")):
        assert list(differences(SUMMARY, changed(path, 7))) == []


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (("claims", 0, "value"), 0.1 + 1e-16 * 2, ".claims[0].value: 0.1 -> "),
        (("claims", 0, "interval"), [0.0], ".claims[0].interval: [0.0, 0.2] -> [0.0]"),
        (("numbers", "size"), 4, ".numbers.size: 3 -> 4"),
        (("numbers", "none"), 0.0, ".numbers.none: nan -> 0.0"),
        (("numbers", "more"), 1, ".numbers.more: only new"),
    ],
)
def test_every_other_entry_is_compared_to_the_last_bit(path, value, line):
    (found,) = differences(SUMMARY, changed(path, value))
    assert found.startswith(line)


def test_a_result_that_is_missing_counts_as_a_difference(tmp_path, capsys):
    old, new = tmp_path / "old", tmp_path / "new"
    for root, slugs in ((old, ("a", "b")), (new, ("a",))):
        for slug in slugs:
            (root / slug).mkdir(parents=True)
            (root / slug / "summary.json").write_text(json.dumps(SUMMARY))
    assert compare(old, new) == 1
    assert "b: no new result" in capsys.readouterr().out
