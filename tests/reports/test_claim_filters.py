"""Marks of claims, and the rules that hide by them."""

import itertools

from rlhf_jax.reports.claims import KINDS, Claim
from rlhf_jax.reports.filters import VERDICTS, claim_filter, claim_marks


def test_marks_are_the_verdicts_the_kinds_and_their_pairs():
    one = Claim("a", 1.0, ">", 0.0, kind="paper", source="s")
    other = Claim("b", 1.0, "<", 0.0, kind="ours", source="s")
    assert (one.verdict, other.verdict) == ("holds", "fails")
    assert claim_marks([one]).split() == [
        "claimed", "kind-paper", "verdict-holds", "verdict-holds-kind-paper",
    ]  # fmt: skip
    both = claim_marks([one, other]).split()
    assert "verdict-holds-kind-ours" not in both
    assert {"verdict-fails", "kind-ours", "verdict-fails-kind-ours"} < set(both)


def test_there_is_a_choice_and_a_rule_for_each_verdict_and_kind_and_for_two_at_once():
    written = claim_filter()
    assert "<script" not in written
    for about, name in [("verdict", v) for v in VERDICTS] + [("kind", k) for k in KINDS]:
        assert f'name="{about}" id="{about}-{name}">' in written
        assert f"main:has(#{about}-{name}:checked) .claimed:not(.{about}-{name})" in written
    for v, k in itertools.product(VERDICTS, KINDS):
        both = f"main:has(#verdict-{v}:checked):has(#kind-{k}:checked)"
        assert f"{both} .claimed:not(.verdict-{v}-kind-{k})" in written
    assert written.count("checked> all") == 2
