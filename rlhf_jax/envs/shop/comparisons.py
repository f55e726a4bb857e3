"""Comparisons: long answers of three to eight claims about two to four products, span by span.

A customer asks to compare some products on some aspects. An answer is a chain of sub-sentences with
one claim each: a price, stars, a feature, that the list leaves it open, or which of two is cheaper
or better rated. `comparison_answer` writes one with exactly k wrong claims at known spans, and with
as many idle and repeated segments as asked. `score_comparison` reads any text: a label for each
segment, and over the answer its factuality, relevance and coverage. One preference on such an
answer says little about any of its parts, so this is where span rewards can show what they are for.
"""

import re
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from rlhf_jax.envs.shop.catalogue import FEATURES, PRICES, STARS, Product
from rlhf_jax.envs.shop.shelves import Shelf, and_list, make_shelf

SEGMENT_LABELS = ("true", "false", "unknown", "repeat", "idle")
MAX_CLAIMS = 8
REQUESTS = (
    "please compare {names} : {aspects} .",
    "what do you say about {names} ? i want to know {aspects} .",
)
SAID = {
    "price": ("{name} costs {num} dollars", "the price of {name} is {num} dollars"),
    "stars": ("{name} has {num} stars", "buyers gave {name} {num} stars"),
    "yes": ("{name} is {a}", "{name} is also {a}"),
    "no": ("{name} is not {a}", "{name} is not very {a}"),
    "open": ("the list does not say whether {name} is {a}", "nobody knows whether {name} is {a}"),
    "cheaper": ("{name} is cheaper than {other}", "{name} costs less than {other}"),
    "better": ("{name} has more stars than {other}", "buyers like {name} better than {other}"),
}
ASIDES = (
    "many people ask me that", "it was a long day", "i had tea with my cousin",
    "a list can be long", "the weather will be grey",
)  # fmt: skip
TEMPLATES = (
    *REQUESTS, *(form for forms in SAID.values() for form in forms), *ASIDES, ". ,",
    "shop : customer : assistant : price stars {a} and",
)  # fmt: skip
_FORMS = [
    (kind, re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\w+)", re.escape(form))))
    for kind, forms in SAID.items()
    for form in forms
]
_CUT = re.compile(r" [.,;!?](?: |$)")


@dataclass(frozen=True)
class Comparison:
    """A request to compare.

    text: the prompt. shelf: its products. names, aspects (`price`, `stars` or a feature): what the
    customer asked for.
    """

    text: str
    shelf: Shelf
    names: tuple[str, ...]
    aspects: tuple[str, ...]

    def product(self, name: str) -> Product | None:
        """The product of this name, if it is on the list."""
        return next((each for each in self.shelf.products if each.name == name), None)


class Said(NamedTuple):
    """A claim: kind is a key of SAID, of what `name` is said to be; value is a number, a feature or
    the other name."""

    kind: str
    name: str
    value: str


class Segment(NamedTuple):
    """A sub-sentence text[start:end] without its end mark, one of SEGMENT_LABELS, and its claim."""

    start: int
    end: int
    label: str
    claim: Said | None


class ComparisonScore(NamedTuple):
    """What a comparison is worth, part by part and as a whole.

    segments: the labelled segments. factuality: share of claims that are true, 1 without claims.
    relevance: share of segments that are neither idle nor repeated, 0 for an empty text.
    coverage: share of the (product, aspect) pairs asked for that are told truly.
    """

    segments: tuple[Segment, ...]
    factuality: float
    relevance: float
    coverage: float


def comparison_prompt(seed: int, index: int) -> Comparison:
    """The request with this index, a function of (seed, index) only; no two have equal texts."""
    rng = Random(f"comparison/{seed}/{index}")
    shelf = make_shelf(seed, index, rng, sold=0.0)
    names = [each.name for each in shelf.products]
    chosen = tuple(rng.sample(names, rng.randrange(2, len(names) + 1)))
    aspects = tuple(rng.sample(("price", "stars", *shelf.shown), 2 if len(chosen) == 4 else 3))
    request = rng.choice(REQUESTS).format(names=and_list(chosen), aspects=and_list(aspects))
    text = f"{shelf.text} customer : {request} assistant :"
    return Comparison(text, shelf, chosen, aspects)


def comparison_answer(
    seed: int, task: Comparison, index: int, *, wrong: int = 0, idle: int = 0, repeats: int = 0
) -> tuple[str, tuple[Segment, ...]]:
    """An answer of three to eight different claims and its labelled segments.

    Args:
      seed, index: of the answer; it is a function of these and of the other arguments.
      task: the request.
      wrong: number of claims that are false or about something unknown; at least 6 are possible.
      idle: number of segments without a claim.
      repeats: number of claims that are said again.
    Returns:
      (text, segments), equal to those of `score_comparison`.
    Raises:
      ValueError: more wrong claims than the longest answer has.
    """
    rng = Random(f"comparison_answer/{seed}/{index}/{wrong}/{idle}/{repeats}/{task.text}")
    right = _true_claims(task)
    most = min(MAX_CLAIMS, len(right))
    if not 0 <= wrong <= most:
        raise ValueError(f"wrong = {wrong} is out of range; use 0 <= wrong <= {most} here")
    asked = len(task.names) * len(task.aspects)  # these come first, relations after them
    count = rng.randrange(max(3, wrong), most + 1)
    chosen = rng.sample(right[:asked], min(count, asked))
    chosen += rng.sample(right[asked:], count - len(chosen))
    spoiled = set(rng.sample(range(count), wrong))
    claims = [_spoil(rng, task, each) if i in spoiled else each for i, each in enumerate(chosen)]
    again = [rng.choice(claims) for _ in range(repeats)]
    lines = [_write(rng, each) for each in claims]
    for line in [_write(rng, each) for each in again] + rng.choices(ASIDES, k=idle):
        lines.insert(rng.randrange(len(lines) + 1), line)
    text = " ".join(f"{line} {rng.choice('.,')}" for line in lines[:-1])
    text = f"{text} {lines[-1]} .".strip()
    return text, score_comparison(task, text).segments


def score_comparison(task: Comparison, text: str) -> ComparisonScore:
    """The labels and marks of any text as an answer to the request.

    A sub-sentence ends at a comma or an end mark. One that has none of the forms of SAID is `idle`;
    one that says again what the text has said is `repeat`.
    """
    segments, told, start = [], set(), 0
    for piece in _CUT.split(text):
        if piece:
            at = text.index(piece, start)
            start = at + len(piece)
            claim = read_claim(piece)
            label = "idle" if claim is None else claim_truth(task, claim)
            label = "repeat" if claim in told else label
            told |= set() if claim is None else {claim}
            segments.append(Segment(at, start, label, claim))
    labels = [segment.label for segment in segments]
    made = sum(label in ("true", "false", "unknown") for label in labels)
    covered = {(s.claim.name, _aspect(s.claim)) for s in segments if s.claim and s.label == "true"}
    asked = [(name, aspect) for name in task.names for aspect in task.aspects]
    return ComparisonScore(
        tuple(segments),
        labels.count("true") / made if made else 1.0,
        made / len(labels) if labels else 0.0,
        sum(each in covered for each in asked) / len(asked),
    )


def read_claim(piece: str) -> Said | None:
    """The claim of a sub-sentence, None if it has none of the forms of SAID."""
    for kind, form in _FORMS:
        match = form.fullmatch(piece)
        if not match:
            continue
        found = match.groupdict()
        value = next(found[slot] for slot in ("num", "a", "other") if slot in found)
        if ("num" in found and not value.isdecimal()) or ("a" in found and value not in FEATURES):
            continue
        return Said(kind, found["name"], value)
    return None


def claim_truth(task: Comparison, claim: Said) -> str:
    """`true`, `unknown` (the list does not say) or `false`."""
    product = task.product(claim.name)
    if product is None:
        return "false"
    if claim.kind in ("price", "stars"):
        return _name(int(claim.value) == getattr(product, claim.kind))
    if claim.kind in ("cheaper", "better"):
        other = task.product(claim.value)
        if other is None:
            return "false"
        less = product.price < other.price
        return _name(less if claim.kind == "cheaper" else product.stars > other.stars)
    shown = product.shown_value(claim.value)
    if claim.kind == "open":
        return _name(shown is None)
    return "unknown" if shown is None else _name(shown == (claim.kind == "yes"))


def examples(seed: int, count: int) -> list[str]:
    """Requests with an answer and its labels, as a page prints them."""
    found = []
    for index in range(count):
        task = comparison_prompt(seed, index)
        text, _ = comparison_answer(seed, task, index, wrong=index % 3, idle=index % 2)
        marks = score_comparison(task, text)
        labels = " ".join(segment.label for segment in marks.segments)
        numbers = ", ".join(f"{name} {getattr(marks, name):.2f}" for name in marks._fields[1:])
        found.append(f"{task.text} {text}\n  segments: {labels}; {numbers}")
    return found


def _name(truth: bool) -> str:
    """The label of a claim that is known to hold or not."""
    return "true" if truth else "false"


def _aspect(claim: Said) -> str:
    """The aspect that a claim settles; empty for a relation."""
    if claim.kind in ("cheaper", "better"):
        return ""
    return claim.kind if claim.kind in ("price", "stars") else claim.value


def _true_claims(task: Comparison) -> list[Said]:
    """Every true claim: those asked for, then the relations of the products asked for."""
    found = []
    for product in task.shelf.products:
        for aspect in task.aspects if product.name in task.names else ():
            if aspect in ("price", "stars"):
                found.append(Said(aspect, product.name, str(getattr(product, aspect))))
            else:
                kind = {True: "yes", False: "no", None: "open"}[product.shown_value(aspect)]
                found.append(Said(kind, product.name, aspect))
    both = [(a, b) for a in task.names for b in task.names if a != b]
    relations = [Said(kind, a, b) for kind in ("cheaper", "better") for a, b in both]
    return found + [each for each in relations if claim_truth(task, each) == "true"]


def _spoil(rng: Random, task: Comparison, claim: Said) -> Said:
    """A claim about the same thing that is not true."""
    if claim.kind == "price":
        prices = [each for each in PRICES if str(each) != claim.value]
        return claim._replace(value=str(rng.choice(prices)))
    if claim.kind == "stars":
        return claim._replace(value=str(rng.choice([s for s in STARS if str(s) != claim.value])))
    if claim.kind in ("cheaper", "better"):
        return Said(claim.kind, claim.value, claim.name)
    kinds = [kind for kind in ("yes", "no", "open") if kind != claim.kind]
    return claim._replace(kind=rng.choices(kinds, [3 if k != "open" else 1 for k in kinds])[0])


def _write(rng: Random, claim: Said) -> str:
    """The claim in one of its forms."""
    form = rng.choice(SAID[claim.kind])
    return form.format(name=claim.name, num=claim.value, a=claim.value, other=claim.value)
