"""What a training on the shop's prompts changes in `base`: loss on its texts, look-ups, harm.

    kept = watch_forgetting(lab, corpus=96, probes=96, attacks=96, world=0)
    fit = Fit(optimizer, steps, measure=at_points(kept, steps=steps, points=8))

The corpus and the probes are of the kind that `base` was trained on, and held out of that training;
attacks are requests that should be declined, wrapped in a story, an order or a hurry.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rlhf_jax.checks import check_range
from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.reading import read_answer
from rlhf_jax.labs.shop import SPLITS
from rlhf_jax.recipes import LanguageLab, corpus_loss, sample_texts, stage_key
from rlhf_jax.recipes.offline import Measure
from rlhf_jax.types import Params

TEXT_WORDS = 128  # of a drill or a general text with its <eos>, at most
UNREAD = 300_000  # first number of general texts that no training reads
ROWS = 32  # texts at a time


def drill_text(seed: int, index: int) -> dict[str, str]:
    """Two drills to one general text: what `base` is trained on."""
    if index % 3 == 2:
        return {"prompt": "", "answer": shop.general_text(seed, index)}
    found = shop.drill(seed, index)
    return {"prompt": found.question, "answer": found.answer}


def wide_lab(lab: LanguageLab) -> LanguageLab:
    """The lab with room for drills and general texts, which are longer than requests."""
    return lab._replace(prompt_length=TEXT_WORDS, answer_length=TEXT_WORDS)


def base_corpus(world: int, count: int) -> list[dict[str, str]]:
    """Texts like those of `drill_text` that `base` was not trained on."""
    check_range("[1, inf)", count=count)
    texts = []
    for index in range(count):
        if index % 3 == 2:
            texts.append({"prompt": "", "answer": shop.general_text(world, UNREAD + index)})
        else:
            found = shop.probe(world, index)
            texts.append({"prompt": found.question, "answer": found.answer})
    return texts


def lookup_skill(lab: LanguageLab, params: Params, count: int, *, world: int) -> float:
    """The share of `count` held-out drills that the likeliest answer gets right."""
    check_range("[1, inf)", count=count)
    probes = [shop.probe(world, index) for index in range(count)]
    questions = [probe.question for probe in probes]
    texts = _answers(wide_lab(lab), params, questions, temperature=0.0)
    right = [shop.probe_right(probe, text) for probe, text in zip(probes, texts, strict=True)]
    return float(np.mean(right))


def attack_numbers(world: int, count: int) -> np.ndarray:
    """Numbers of the first `count` held-out prompts that provoke: unsafe requests in a wrapper."""
    check_range("[1, 1000]", count=count)
    found = []
    for number in SPLITS["heldout"]:
        prompt = shop.make_prompt(world, number)
        if prompt.task == "refuse" and prompt.attack != "plain":
            found.append(number)
        if len(found) == count:
            break
    return np.array(found)


def provoked_harm(lab: LanguageLab, params: Params, count: int, *, world: int) -> float:
    """The share of `count` attacks that one sampled answer complies with.

    Nonsense complies with nothing: unlike 1 - harmless, this is no measure of quality.
    """
    prompts = [shop.make_prompt(world, int(number)) for number in attack_numbers(world, count)]
    texts = _answers(lab, params, [prompt.text for prompt in prompts], temperature=1.0)
    rows = zip(prompts, texts, strict=True)
    return float(np.mean([bool(read_answer(prompt, text).harms) for prompt, text in rows]))


def watch_forgetting(
    lab: LanguageLab, *, corpus: int, probes: int, attacks: int, world: int
) -> Measure:
    """ "kept/corpus loss" in nats a token, "kept/look-up" and "kept/harm", for `Fit.measure`.

    Args:
      corpus, probes, attacks: how many texts, drills and attacks.
    """
    records, wide = base_corpus(world, corpus), wide_lab(lab)

    def measured(params: Params, step: int) -> dict[str, Any]:
        return {
            "kept/corpus loss": corpus_loss(wide, params, records, batch_size=ROWS),
            "kept/look-up": lookup_skill(lab, params, probes, world=world),
            "kept/harm": provoked_harm(lab, params, attacks, world=world),
        }

    return measured


def _answers(
    lab: LanguageLab, params: Params, prompts: Sequence[str], *, temperature: float
) -> list[str]:
    """An answer to each prompt, always drawn with the same key."""
    key, sampling = stage_key(lab, "forgetting"), replace(lab.sampling, temperature=temperature)
    found = sample_texts(lab, params, prompts, key, samples=1, sampling=sampling)
    return [text for (text,) in found]
