"""Reading a text: its recommended products, claims, hedges, refusals and harmful content.

A sentence of the grammar is looked up; any other is read by its key words.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from rlhf_jax.envs.shop import keywords
from rlhf_jax.envs.shop.catalogue import CATEGORIES, FEATURES, NAMES
from rlhf_jax.envs.shop.fluency import SENTENCE_ENDS
from rlhf_jax.envs.shop.grammar import Fact, match
from rlhf_jax.envs.shop.prompts import Prompt

_TOKEN = re.compile(r"\d+|[^\W\d_]+(?:'[^\W\d_]+)*|[^\w\s]")
_FEATURES, _NAMES = frozenset(FEATURES), frozenset(NAMES)


@dataclass(frozen=True)
class ProductClaim:
    """One assertion about a product.

    start, end: character span in the text, negation included. product: its name.
    attribute: a feature, or `price`, `stars`, `stock`, `budget`, or `category` if it is called
    something that it is not. value: the asserted value.
    status: `true`, `unknown` (the assistant could not know) or `false`.
    """

    start: int
    end: int
    product: str
    attribute: str
    value: bool | int
    status: str


@dataclass(frozen=True)
class Remark:
    """A marked sentence: start, end: its character span.

    kind: `recommend`, `polite`, `rude`, `refusal`, `regret` (a refusal that apologises), `offer` of
    other help, `harm` (does something unsafe), `howto` (explains), `flattery` of the customer, or
    `filler` (no content).
    """

    start: int
    end: int
    kind: str


class Sentence(NamedTuple):
    """What one sentence says on its own.

    kinds: its remarks. recommended, facts: products and statements; product "" of a fact is the
    last product named before. harms, refused: topics complied with and topics refused.
    howto: (topic, share of its explanation). last_name: the last product named, or "".
    category: the category that it names, or "". known: whether it is in the grammar.
    """

    kinds: tuple[str, ...]
    recommended: tuple[str, ...]
    facts: tuple[Fact, ...]
    harms: tuple[str, ...]
    refused: tuple[str, ...]
    howto: tuple[tuple[str, float], ...]
    last_name: str
    category: str
    known: bool


@dataclass(frozen=True)
class Reading:
    """Content found in a text.

    tokens: lower-case words. bounds: (first, past last) token of each sentence. spans: (start, end)
    character of each sentence. recommended: product names in order. hedged: (product, attribute)
    pairs left open, each with its sentence. harms, refused: topics complied with and topics that
    the refusals name. howto: topic -> share of its correct explanation that was found. dangling:
    sentences that state something of a product before any is named.
    """

    tokens: list[str]
    bounds: list[tuple[int, int]]
    spans: list[tuple[int, int]]
    claims: tuple[ProductClaim, ...]
    remarks: tuple[Remark, ...]
    recommended: dict[str, int]
    hedged: dict[tuple[str, str], int]
    harms: dict[str, int]
    refused: dict[str, int]
    howto: dict[str, float]
    dangling: tuple[int, ...]

    def count(self, kind: str) -> int:
        """Number of sentences with this remark."""
        return sum(remark.kind == kind for remark in self.remarks)

    def spans_of(self, kind: str) -> list[tuple[int, int]]:
        """(start, end) of the sentences with this remark."""
        return [(r.start, r.end) for r in self.remarks if r.kind == kind]


def read_answer(prompt: Prompt, text: str) -> Reading:
    """Reads any text as an answer to the prompt. Case and spacing do not matter.

    The values of recommended, hedged, harms and refused are numbers of sentences.
    """
    matches = list(_TOKEN.finditer(text))
    tokens = [found.group().lower() for found in matches]
    spans = [found.span() for found in matches]
    bounds = sentence_bounds(tokens)
    places = [(spans[first][0], spans[last - 1][1]) for first, last in bounds]
    found = Reading(tokens, bounds, places, (), (), {}, {}, {}, {}, {}, ())
    claims: list[ProductClaim] = []
    remarks: list[Remark] = []
    dangling: list[int] = []
    subject = ""
    for number, (first, last) in enumerate(bounds):
        said = read_sentence(tuple(tokens[first:last]), prompt.task, prompt.topic)
        facts = [f if f.product else f._replace(product=subject) for f in said.facts]
        if not all(fact.product for fact in facts):
            dangling.append(number)
            facts = [fact for fact in facts if fact.product]
        claims += [_claim(prompt, spans[first:last], f) for f in facts if not f.doubt]
        kinds = said.kinds
        if said.category and said.category != prompt.category and said.known:
            if said.recommended:
                name = said.recommended[0]
                claims.append(ProductClaim(*places[number], name, "category", True, "false"))
            elif kinds == ("offer",):
                kinds = ("filler",)
        if not (kinds or facts):
            kinds = ("filler",)
        remarks += [Remark(*places[number], kind) for kind in kinds]
        for name in said.recommended:
            found.recommended.setdefault(name, number)
        for fact in facts:
            if fact.doubt:
                found.hedged.setdefault((fact.product, fact.attribute), number)
        found.harms.update(dict.fromkeys(said.harms, number))
        found.refused.update(dict.fromkeys(said.refused, number))
        for topic, share in said.howto:
            found.howto[topic] = max(found.howto.get(topic, 0.0), share)
        subject = said.last_name or subject
    return Reading(
        tokens, bounds, places, tuple(claims), tuple(remarks), found.recommended, found.hedged,
        found.harms, found.refused, found.howto, tuple(dangling),
    )  # fmt: skip


def sentence_bounds(tokens: list[str]) -> list[tuple[int, int]]:
    """(first, past last) token of each sentence, including the end mark."""
    bounds, first = [], 0
    for i, token in enumerate(tokens):
        if token in SENTENCE_ENDS:
            bounds.append((first, i + 1))
            first = i + 1
    if first < len(tokens):
        bounds.append((first, len(tokens)))
    return bounds


@lru_cache(maxsize=1 << 16)
def read_sentence(sentence: tuple[str, ...], task: str, topic: str) -> Sentence:
    """What a sentence says as (part of) an answer to a request of this task and topic."""
    last_name = next((word for word in reversed(sentence) if word in _NAMES), "")
    found = match(sentence)
    if found is not None:
        return Sentence(
            kinds=found.kinds,
            recommended=found.names if "recommend" in found.kinds else (),
            facts=found.facts,
            harms=(found.topic,) if "harm" in found.kinds else (),
            refused=(found.topic,) if "refusal" in found.kinds and found.topic else (),
            howto=((found.topic, 1.0),) if "howto" in found.kinds else (),
            last_name=last_name,
            category=found.category,
            known=True,
        )
    kinds = keywords.remark_kinds(task, topic, sentence)
    shares = {} if "refusal" in kinds else keywords.howto_shares(sentence)
    if not kinds and 1.0 in shares.values():
        kinds = ["howto"]
    names = tuple(dict.fromkeys(keywords.recommended_names(sentence)))
    return Sentence(
        kinds=("recommend", *kinds) if names else tuple(kinds),
        recommended=names,
        facts=tuple(keywords.stated_facts(sentence)),
        harms=(topic or "address",) if "harm" in kinds else (),
        refused=keywords.refused_topics(sentence) if "refusal" in kinds else (),
        howto=tuple(shares.items()),
        last_name=last_name,
        category=next((word for word in sentence if word in CATEGORIES), ""),
        known=False,
    )


def _claim(prompt: Prompt, spans: list[tuple[int, int]], fact: Fact) -> ProductClaim:
    """The fact with its character span and its status, given the facts shown to the assistant."""
    product = next((p for p in prompt.products if p.name == fact.product), None)
    shown: bool | int | None = False
    if product is None:
        status = "false"  # no such product in the catalogue lines
    else:
        if fact.attribute in _FEATURES:
            shown = product.shown_value(fact.attribute)
        elif fact.attribute == "budget":
            shown = product.price <= prompt.budget
        else:
            values = {"price": product.price, "stars": product.stars, "stock": product.in_stock}
            shown = values[fact.attribute]
        status = "unknown" if shown is None else ("true" if shown == fact.value else "false")
    start, end = spans[fact.begin][0], spans[fact.end - 1][1]
    return ProductClaim(start, end, fact.product, fact.attribute, fact.value, status)
