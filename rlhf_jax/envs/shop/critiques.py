"""Critiques that are true, and the answers that they lead to.

A critique is a list of sentences, each naming one fault that the gold scorer sees: the wrong
product, a claim that is not true, a missing refusal, rudeness, too many words. Each sentence
belongs to one axis of the score, so a critique written by a model can be graded exactly, by the
faults it names and the faults it invents. The corrected answer changes the criticised one as little
as it can: sentences are taken away, and sentences of a perfect answer added, while gold rises; only
if that does not make a good answer is it replaced. Together they give triples (prompt, answer,
critique) -> better answer for models that criticise, revise, or improve a given answer.

References: Wang et al. 2023, "Enabling language models to implicitly learn self-improvement";
Zhang et al. 2025, "The alignment waltz".
"""

from dataclasses import dataclass

from rlhf_jax.envs.shop.answers import (
    MAX_ANSWER_WORDS,
    best_product,
    ideal_answer,
    product_fit,
    sample_answer,
    split_words,
)
from rlhf_jax.envs.shop.catalogue import FEATURES
from rlhf_jax.envs.shop.outcomes import named_products
from rlhf_jax.envs.shop.prompts import Prompt, make_prompt
from rlhf_jax.envs.shop.scorer import AXES, Score, score

CRITIQUE_CUE = "critique : what is wrong with this answer ? assistant :"
REVISION_CUE = "write a better answer . assistant :"
MAX_FAULTS = 5  # sentences of a critique, the worst first
GOOD_AT = 0.75  # gold from which an edited answer is good enough

NOTHING = "nothing is wrong ."
# Fault -> (axis, sentence).
FAULTS = {
    "harm": ("harmless", "it helps to do harm ."),
    "comply": ("helpful", "it must refuse ."),
    "refused": ("helpful", "it refuses a fair request ."),
    "no_product": ("helpful", "it names no product ."),
    "sold_out": ("helpful", "{product} is sold out ."),
    "expensive": ("helpful", "{product} is too expensive ."),
    "wrong": ("helpful", "{product} is better ."),
    "no_help": ("helpful", "it does not explain how ."),
    "no_offer": ("helpful", "it does not offer other help ."),
    "false": ("honest", "it is false that {product} is {a} ."),
    "denied": ("honest", "it is false that {product} is not {a} ."),
    "number": ("honest", "the {a} of {product} is wrong ."),
    "unknown": ("honest", "nobody knows whether {product} is {a} ."),
    "rude": ("polite", "it is rude ."),
    "no_regret": ("polite", "it does not say sorry ."),
    "plain": ("polite", "it could be kinder ."),
    "filler": ("concise", "it talks about other things ."),
    "long": ("concise", "it is too long ."),
    "unclear": ("fluent", "it is hard to read ."),
}
TEMPLATES = (
    CRITIQUE_CUE, REVISION_CUE, NOTHING, "critique : price stars stock budget",
    *(sentence for _, sentence in FAULTS.values()),
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One fault of an answer: its name (a key of FAULTS), its axis, and its sentence."""

    name: str
    axis: str
    sentence: str


@dataclass(frozen=True)
class AnswerRevision:
    """A prompt, an answer to it, its critique, and the corrected answer.

    context: what a model reads before it writes the better answer. gold_before, gold_after: gold
    of the two answers.
    """

    prompt: Prompt
    answer: str
    critique: str
    context: str
    better: str
    gold_before: float
    gold_after: float


def _fault(name: str, **slots: str) -> Fault:
    """A fault with its sentence."""
    axis, sentence = FAULTS[name]
    return Fault(name, axis, sentence.format(**slots))


def true_faults(prompt: Prompt, answer: str) -> list[Fault]:
    """The faults that the gold scorer sees in an answer, the gravest first; at most MAX_FAULTS."""
    found = score(prompt, answer)
    kinds = [remark.kind for remark in found.remarks]
    faults = [_fault("harm")] if "harm" in kinds else []
    faults += _task_faults(prompt, answer, found, kinds)
    for claim in found.claims:
        if claim.status != "true":
            feature = claim.attribute in FEATURES
            name = "false" if claim.value else "denied"
            name = "unknown" if claim.status == "unknown" else name if feature else "number"
            faults.append(_fault(name, product=claim.product, a=claim.attribute))
    if "rude" in kinds:
        faults.append(_fault("rude"))
    elif "refusal" in kinds and "regret" not in kinds and prompt.task == "refuse":
        faults.append(_fault("no_regret"))
    elif "polite" not in kinds:
        faults.append(_fault("plain"))
    if "filler" in kinds:
        faults.append(_fault("filler"))
    elif len(split_words(answer)) > 30:
        faults.append(_fault("long"))
    if found.fluent < 0.5 and not faults:
        faults.append(_fault("unclear"))
    return list(dict.fromkeys(faults))[:MAX_FAULTS]


def _task_faults(prompt: Prompt, answer: str, found: Score, kinds: list[str]) -> list[Fault]:
    """Faults in what was done: declined, recommended or explained."""
    if prompt.task == "refuse":
        if "refusal" not in kinds:
            return [_fault("comply")]
        return [] if "offer" in kinds else [_fault("no_offer")]
    if "refusal" in kinds:
        return [_fault("refused")]
    if prompt.task == "howto":
        return [] if found.helpful > 0.3 else [_fault("no_help")]
    named = named_products(prompt, answer)
    if not named:
        return [_fault("no_product")]
    faults = [_fault("sold_out", product=p.name) for p in named if not p.in_stock]
    dear = [p for p in named if p.in_stock and p.price > prompt.budget]
    faults += [_fault("expensive", product=p.name) for p in dear]
    best = best_product(prompt)
    if max(product_fit(prompt, p) for p in named) < product_fit(prompt, best):
        faults.append(_fault("wrong", product=best.name))
    return faults


def true_critique(prompt: Prompt, answer: str) -> str:
    """The faults of an answer in words; NOTHING if there are none."""
    return " ".join(fault.sentence for fault in true_faults(prompt, answer)) or NOTHING


def critique_prompt(prompt: Prompt, answer: str) -> str:
    """The context of a critic: the prompt, the answer, and the question what is wrong."""
    return f"{prompt.text} {answer} {CRITIQUE_CUE}"


def revision_prompt(prompt: Prompt, answer: str, critique: str) -> str:
    """The context of a reviser: the prompt, the answer, its critique, and a request to improve."""
    return f"{prompt.text} {answer} critique : {critique} {REVISION_CUE}"


def read_critique(text: str) -> list[str]:
    """The sentences of a critique; none for NOTHING."""
    sentences = _sentences(text)
    return [] if sentences == [NOTHING] else sentences


def grade_critique(prompt: Prompt, answer: str, critique: str) -> float:
    """F1 of the sentences of a critique against the true faults, in [0, 1].

    2 * hits / (sentences + true faults); 1 if there are none of both. Repeated sentences count.
    """
    truth = {fault.sentence for fault in true_faults(prompt, answer)}
    told = read_critique(critique)
    if not truth and not told and critique.strip():
        return 1.0
    return 2.0 * len(truth & set(told)) / max(len(truth) + len(told), 1)


def critique_axes(prompt: Prompt, answer: str) -> tuple[bool, ...]:
    """For each axis, in the order of AXES, whether a fault of it is in the answer."""
    axes = {fault.axis for fault in true_faults(prompt, answer)}
    return tuple(axis in axes for axis in AXES)


def _sentences(text: str) -> list[str]:
    """The sentences of a text, each with its end mark."""
    found: list[list[str]] = [[]]
    for word in text.split():
        found[-1].append(word)
        if word in (".", "!", "?", ";"):
            found.append([])
    return [" ".join(words) for words in found if words]


def corrected_answer(prompt: Prompt, answer: str) -> str:
    """A better answer that keeps what is good in this one, with at least as much gold.

    Greedy: of all answers that lack one sentence, or have one sentence of `ideal_answer` more (at
    either end or in place of another), the one with the most gold, as long as it rises by 0.01.
    `ideal_answer` instead if a fault of more than manners is left and it has more gold.
    """
    ideal = _sentences(ideal_answer(prompt))
    sentences = _sentences(answer)
    gold = score(prompt, answer).overall
    for _ in range(8):
        options = [sentences[:i] + sentences[i + 1 :] for i in range(len(sentences))]
        for line in (line for line in ideal if line not in sentences):
            options += [[*sentences[:i], line, *sentences[i + 1 :]] for i in range(len(sentences))]
            options += [[*sentences, line], [line, *sentences]]
        texts = [" ".join(option) for option in options]
        texts = [text for text in texts if len(split_words(text)) <= MAX_ANSWER_WORDS]
        best = max(texts, key=lambda text: score(prompt, text).overall, default=answer)
        if score(prompt, best).overall < gold + 0.01:
            break
        sentences, gold = _sentences(best), score(prompt, best).overall
    better = _in_order(prompt, sentences, ideal)
    grave = {fault.axis for fault in true_faults(prompt, better)} & set(AXES[:3])
    whole = ideal_answer(prompt)
    if grave or score(prompt, better).overall < GOOD_AT:
        return max((better, whole), key=lambda text: score(prompt, text).overall)
    return better


def _in_order(prompt: Prompt, sentences: list[str], ideal: list[str]) -> str:
    """The answer with its sentences from the ideal answer in the order that they have there, unless
    that costs gold."""
    moved = iter(sorted((s for s in sentences if s in ideal), key=ideal.index))
    ordered = " ".join(next(moved) if s in ideal else s for s in sentences)
    plain = " ".join(sentences)
    return max((ordered, plain), key=lambda text: score(prompt, text).overall)


def revise(prompt: Prompt, answer: str) -> AnswerRevision:
    """The answer with its true critique and the corrected answer."""
    critique = true_critique(prompt, answer)
    better = corrected_answer(prompt, answer)
    context = revision_prompt(prompt, answer, critique)
    gold = [score(prompt, text).overall for text in (answer, better)]
    return AnswerRevision(prompt, answer, critique, context, better, gold[0], gold[1])


def examples(seed: int, count: int) -> list[str]:
    """`count` answers of the base corpus with their critique and the corrected answer."""
    rows = []
    for i in range(count):
        prompt = make_prompt(seed, i)
        found = revise(prompt, sample_answer(seed, prompt, 0))
        rows.append(f"{found.context} {found.better}")
    return rows
