"""Fluency of a text: sentences, word order, repetition, copying.

It does not depend on whether a text is correct. A sentence of the grammar has fluency 1. Any other
starts at GLUED or OUTSIDE and loses by a factor for each run of three words that the grammar does
not have, so sentences glued from pieces are worth little.
"""

from functools import lru_cache

from rlhf_jax.envs.shop.catalogue import CATEGORIES, FEATURES, NAMES
from rlhf_jax.envs.shop.explanations import STREETS
from rlhf_jax.envs.shop.grammar import KNOWN_WORDS, match, pattern_keys, slot
from rlhf_jax.envs.shop.replies import ACTS, ANY_ACTS

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
    classes.update(dict.fromkeys((*NAMES, *CATEGORIES, *STREETS), "N"))
    classes.update(dict.fromkeys(SENTENCE_ENDS, "."))
    classes.update(dict.fromkeys(",:-()'\"", ","))
    return {**classes, "$": "D", _START: _START}


_CLASSES = _word_classes()
_REFUSING = frozenset(("cannot", "can't", "won't", "refuse", "decline"))
_DEEDS = frozenset(tuple(act.split()) for acts in (ANY_ACTS, *ACTS.values()) for act in acts)
GLUED = 0.55  # the best that a sentence of the shop's words outside the grammar can have
OUTSIDE = 0.65  # the same, with a word that the shop does not know
NO_DEED = 0.2  # at most, for refusing what cannot be done: "i cannot write a buyer ."
UNENDED = 0.4  # factor for a last sentence without an end mark


def _grammar_trigrams() -> frozenset[tuple[str, ...]]:
    """All runs of three words inside the patterns, with two start marks."""
    found: set[tuple[str, ...]] = set()
    for key in pattern_keys():
        tokens = (_START, _START, *key)
        found.update(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return frozenset(found)


_TRIGRAMS = _grammar_trigrams()


@lru_cache(maxsize=1 << 16)
def transition_credit(first: str, second: str) -> float:
    """Credit for `second` after `first`: 1 if legal, 0.5 beside an unknown word, else -1."""
    left = "#" if first.isdecimal() else _CLASSES.get(first, "")
    right = "#" if second.isdecimal() else _CLASSES.get(second, "")
    if not left or not right:
        unreadable = any(not c and w not in KNOWN_WORDS and not set(w) & set("aeiouy")
                         for c, w in ((left, first), (right, second)))  # fmt: skip
        return -1.0 if unreadable else 0.5
    lefts = (_START,) if left == _START else tuple(left)
    return 1.0 if any(set(_FOLLOWS.get(c, "")) & set(right) for c in lefts) else -1.0


@lru_cache(maxsize=1 << 16)
def sentence_fluency(sentence: tuple[str, ...]) -> float:
    """1 for a sentence of the grammar; else GLUED or OUTSIDE times a factor for each foreign run.

    The factor of a run of three words that no pattern has is 0.7 if its last two words can follow
    each other, 0.55 if that is not known, 0.3 if they cannot; 0.97, 0.9 and 0.4 in a sentence with
    a word that the shop does not know. A refusal has NO_DEED at most unless it names a deed.

    Args:
      sentence: lower-case words, with the end mark if it has one.
    """
    if match(sentence) is not None:
        return 1.0
    foreign = any(word not in KNOWN_WORDS and not word.isdecimal() and word not in SENTENCE_ENDS
                  for word in sentence)  # fmt: skip
    legal, unsure, broken = (0.97, 0.9, 0.4) if foreign else (0.7, 0.55, 0.3)
    value = OUTSIDE if foreign else GLUED
    before, previous, word_before = _START, _START, _START
    for word in sentence:
        current = slot(word)
        if (before, previous, current) not in _TRIGRAMS:
            credit = transition_credit(word_before, word)
            value *= legal if credit > 0.9 else unsure if credit > 0 else broken
        before, previous, word_before = previous, current, word
    if sentence[-1] not in SENTENCE_ENDS:
        value *= UNENDED
    return min(value, NO_DEED) if _refuses_no_deed(sentence) else value


def _refuses_no_deed(sentence: tuple[str, ...]) -> bool:
    """Whether a sentence of known words refuses something that is not one of the known deeds."""
    at = next((i for i, word in enumerate(sentence) if word in _REFUSING), None)
    if at is None or "whether" in sentence or not KNOWN_WORDS.issuperset(sentence):
        return False
    deed = tuple(word for word in sentence[at + 1 :] if word not in SENTENCE_ENDS)
    return (deed[1:] if deed[:1] == ("to",) else deed) not in _DEEDS


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
