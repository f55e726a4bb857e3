"""Fluency of a text: word transitions, repetition, copying.

It does not depend on whether a text is correct; sentences outside the grammar can be fluent too.
"""

from functools import lru_cache

from rlhf_jax.envs.shop import phrases
from rlhf_jax.envs.shop.catalogue import CATEGORIES, FEATURES, NAMES

SENTENCE_ENDS = frozenset(".!?;")
_START = "<s>"

# Word classes: R pronoun, X auxiliary, G negation, V verb, D determiner, A adjective, N noun,
# P preposition, C conjunction, B adverb, W question word, I interjection, # number.
_LEXICON = {
    "R": "i you it we they he she this that who me him them us it's that's i'd i'll i'm",
    "X": "is are am was were be been being can could would will may might must should do does did "
    "has have had isn't doesn't don't it's that's i'm",
    "G": "not never cannot can't won't isn't doesn't don't",
    "V": "recommend suggest take choose buy pick get go cost costs fit fits help helps write post "
    "tell say says know think like love want need ask asks call open type change block hide show "
    "share pay use live lives read hope wait do have had bought sell look see find give make try "
    "bother wasting asking choose shopping refuse decline bring offers offer comes come i'd i'll",
    "D": "a an the this that my your our their his her another any some each every no only many "
    "other such its",
    "A": "good best better nice great fine cheap cheapest cheaper new old own happy glad sorry "
    "sure unsure honest kind silly lazy sold available perfect fake broken right wrong grey afraid "
    "lower able unable last same whole real safe free stolen true unknown rated",
    "N": "choice price dollars dollar stars star stock list day time budget address customer buyer "
    "review reviews account settings card bank order orders page truth damage photo number street "
    "weather week cousin world things question fool thank thanks please option product products "
    "shop rating features feature way idea nothing something today shopping store stranger one",
    "P": "of in for with to on at from by as about under within over than after before into",
    "C": "and or but because so if while as",
    "B": "very too also only just well really gladly instead again now here there today ever "
    "unfortunately maybe perhaps probably still quite even then never yet so out not up online "
    "therefore however certainly as",
    "W": "what which who where when why how whether if that",
    "I": "hello hi hey yes no sorry thank thanks please sure ok okay dear well",
}
_FOLLOWS = {
    _START: "RDNWIVXBAGP",
    "R": "VXBGNC,.",
    "X": "VADBNRGP#XI.",
    "G": "VADBPRX",
    "V": "DRNABP#WGIV,.",
    "D": "AN#",
    "A": "NCAPBWRVD,.",
    "N": "VXPCWBIR,.",
    "#": "NCP,.",
    "P": "DNRAV#W",
    "C": "RXGVDANPBWI#",
    "B": "VABPDCRXWN,.",
    "W": "RDXNAVP",
    "I": ",.RPVBND",
    ",": "RXGVDANPCBWI#",
}


def _word_classes() -> dict[str, str]:
    """word -> possible classes, from the lexicon and the catalogue."""
    classes: dict[str, str] = {}
    for letter, text in _LEXICON.items():
        for word in text.split():
            classes[word] = classes.get(word, "") + letter
    classes.update(dict.fromkeys(FEATURES, "A"))
    classes.update(dict.fromkeys((*NAMES, *CATEGORIES, *phrases.STREETS), "N"))
    classes.update(dict.fromkeys(SENTENCE_ENDS, "."))
    classes.update(dict.fromkeys(",:-()'\"", ","))
    return {**classes, "$": "D", _START: _START}


_CLASSES = _word_classes()
_SLOTS = {
    **dict.fromkeys(NAMES, "{name}"),
    **dict.fromkeys(FEATURES, "{a}"),
    **dict.fromkeys(CATEGORIES, "{cat}"),
    **dict.fromkeys(phrases.STREETS, "{street}"),
}


def slot(word: str) -> str:
    """The word, or the slot that it fills in the templates; all product names are one slot."""
    return "{num}" if word.isdecimal() else _SLOTS.get(word, word)


def _template_trigrams() -> frozenset[tuple[str, str, str]]:
    """All trigrams inside the sentences of the answer templates, with two start marks."""
    found = set()
    for template in phrases.ANSWER_TEMPLATES:
        tokens = [_START, _START, *template.replace("{b}", "{a}").split()]
        found.update(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return frozenset(found)


_TRIGRAMS = _template_trigrams()


@lru_cache(maxsize=1 << 16)
def transition_credit(first: str, second: str) -> float:
    """Credit for `second` after `first`: 0.85 if legal, 0.5 beside an unknown word, else -1."""
    left = "#" if first.isdecimal() else _CLASSES.get(first, "")
    right = "#" if second.isdecimal() else _CLASSES.get(second, "")
    if not left or not right:
        unreadable = any(not c and not set(w) & set("aeiouy") for c, w in
                         ((left, first), (right, second)))  # fmt: skip
        return -1.0 if unreadable else 0.5
    lefts = (_START,) if left == _START else tuple(left)
    return 0.85 if any(set(_FOLLOWS.get(c, "")) & set(right) for c in lefts) else -1.0


def readability(tokens: list[str], bounds: list[tuple[int, int]]) -> float:
    """Mean credit of the words: 1 in an order of the templates, otherwise by word class.

    clip(2 mean - 1, 0, 1), so random words get about 0 and one error in a sentence costs little. A
    last sentence without an end mark counts as one bad word.

    Args:
      tokens: lower-case words and punctuation.
      bounds: (first, past last) token of each sentence.
    """
    if not tokens:
        return 0.0
    credit, count = 0.0, 0
    for first, last in bounds:
        before, previous = _START, _START
        word_before = _START
        for word in tokens[first:last]:
            current = slot(word)
            known = (before, previous, current) in _TRIGRAMS
            credit += 1.0 if known else transition_credit(word_before, word)
            before, previous, word_before = previous, current, word
        count += last - first
    count += tokens[-1] not in SENTENCE_ENDS
    return min(max(2.0 * credit / count - 1.0, 0.0), 1.0)


def ngrams(tokens: list[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n tokens, in order."""
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def freshness(tokens: list[str]) -> float:
    """1 without repeated trigrams, 0 if more than about half of them are repeats."""
    runs = ngrams(tokens, 3)
    if not runs:
        return 1.0
    repeated = 1.0 - len(set(runs)) / len(runs)
    return min(max(1.4 - 2.5 * repeated, 0.0), 1.0)


def originality(tokens: list[str], prompt_runs: frozenset[tuple[str, ...]]) -> float:
    """1 if less than 15% of the runs of 4 words are from the prompt, 0 from 65% on."""
    runs = ngrams(tokens, 4)
    if not runs:
        return 1.0
    copied = sum(run in prompt_runs for run in runs) / len(runs)
    return min(max(1.3 - 2.0 * copied, 0.0), 1.0)
