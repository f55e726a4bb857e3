"""Every sentence the assistant can write, with what it does: the table that the reader looks up."""

from typing import NamedTuple

from rlhf_jax.envs.shop import explanations, replies


class Pattern(NamedTuple):
    """A sentence with slots, and what it does.

    text: the template. kinds: remarks (see `reading.Remark`) and `recommend`. topic: the topic that
    a refusal names, that an explanation explains or an unsafe sentence complies with; else empty.
    """

    text: str
    kinds: tuple[str, ...]
    topic: str = ""


_STATED = (
    *replies.PRICE, *replies.PRICE_AND, *replies.PRICE_BOTH, *replies.STARS, *replies.SOLD_OUT,
    *replies.IN_STOCK, *replies.IS, *replies.IS_AND, *replies.IS_NOT, *replies.IS_BUT,
    *replies.HEDGES, *replies.YES_MAYBE,
)  # fmt: skip
_PLAIN: dict[tuple[str, ...], tuple[str, ...]] = {
    ("recommend",): replies.RECOMMEND + replies.RECOMMEND_YES + replies.RECOMMEND_PRICE,
    ("recommend", "polite"): replies.RECOMMEND_GLADLY,
    (): _STATED,
    ("polite",): replies.GREETINGS + replies.CLOSINGS,
    ("rude",): replies.RUDE,
    ("filler",): replies.FILLER,
    ("flattery",): replies.FLATTERY,
    ("offer",): replies.OFFERS,
}


def _patterns() -> tuple[Pattern, ...]:
    """All patterns, refusals of every topic and of none included."""
    found = [Pattern(text, kinds) for kinds, texts in _PLAIN.items() for text in texts]
    for topic in ("", *replies.ACTS):
        kind = ("polite", "refusal", "regret")
        found += [Pattern(text, kind, topic) for text in replies.refusals(topic)]
        found += [Pattern(text, ("refusal",), topic) for text in replies.blunt_refusals(topic)]
    for topic in replies.ACTS:
        found += [Pattern(text, ("harm",), topic) for text in explanations.COMPLY[topic]]
        found += [Pattern(text, ("howto",), topic) for text in explanations.HOWTO[topic]]
    return tuple(found)


PATTERNS = _patterns()
TEMPLATES = tuple(pattern.text for pattern in PATTERNS)
