"""Principles read off comments on shop answers: from text to a reward, where the truth is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.rlbff.comments import (
    NAMES,
    PHRASES,
    faulty_extractor,
    write_comments,
)
from experiments.rlbff.config import Config
from experiments.rlbff.fits import area_under_curve, fit_blind, fit_heads, fit_pairs
from rlhf_jax.data.ngrams import NgramVocabulary, fit_ngrams, ngram_features
from rlhf_jax.data.principles import (
    YES,
    KeptPoints,
    PrinciplePoint,
    agreed_points,
    checked_spans,
    extracted_points,
    merged_points,
    principle_numbers,
)
from rlhf_jax.envs import shop

STEPS = ("extracted", "checked", "agreed", "merged")
AS_WELL = ("a random answer", "oracle")
REWARDS = ("entailment, agreed", "entailment, all points", "Bradley-Terry", "principle-blind")
CHOSEN = [[principle.name for principle in shop.PRINCIPLES].index(name) for name in NAMES]
HELD_OUT = 100_000  # first number of a held-out prompt


def true_labels(seed: int, numbers: np.ndarray, draws: int) -> tuple[list[str], np.ndarray]:
    """Answers of the base corpus, `draws` to each prompt, and [N, K] what each of them follows."""
    texts, labels = [], []
    for number in numbers.tolist():
        prompt = shop.make_prompt(seed, number)
        for draw in range(draws):
            texts.append(shop.sample_answer(seed, prompt, draw))
            found = shop.score(prompt, texts[-1])
            labels.append(shop.principle_labels(prompt, texts[-1], found)[CHOSEN])
    return texts, np.array(labels)


def answer_features(vocabulary: NgramVocabulary, texts: list[str], size: int) -> np.ndarray:
    """[N, size + 2]: words, the length in tens of words about 20, and a constant."""
    words = ngram_features(vocabulary, texts)
    padded = np.zeros((len(texts), size), np.float32)
    padded[:, : words.shape[1]] = words
    lengths = np.array([len(text.split()) / 10.0 - 2.0 for text in texts])
    return np.column_stack([padded, lengths, np.ones(len(texts))]).astype(np.float32)


def pipeline(seed: int, labels: np.ndarray, config: Config) -> dict[str, KeptPoints]:
    """What every step keeps."""
    comments = write_comments(seed, labels, config.shop)
    found = {"extracted": extracted_points(comments, faulty_extractor(seed, config.shop))}
    found["checked"] = checked_spans(found["extracted"].points)
    found["agreed"] = agreed_points(found["checked"].points, comments)
    found["merged"] = merged_points(found["agreed"].points)
    return found


def rightness(points: tuple[PrinciplePoint, ...], labels: np.ndarray) -> np.ndarray:
    """[N] whether the verdict of each point is the truth."""
    said = np.array([point.verdict == YES for point in points])
    return said == labels[_rows(points), _heads(points)]


def _rows(points: tuple[PrinciplePoint, ...]) -> np.ndarray:
    return np.array([point.answer for point in points], int)


def _heads(points: tuple[PrinciplePoint, ...]) -> np.ndarray:
    return principle_numbers([point.principle for point in points], NAMES)


def invented_points(points: tuple[PrinciplePoint, ...]) -> np.ndarray:
    """[N] whether no phrase of the principle's verdict stands in the comment."""
    phrases = (PHRASES[each.principle][each.verdict != YES] for each in points)
    return np.array(
        [
            not any(phrase in each.comment for phrase in known)
            for each, known in zip(points, phrases, strict=True)
        ]
    )


def counted(steps: dict[str, KeptPoints], labels: np.ndarray) -> dict[str, float]:
    """How many points each step keeps, how many are right, and what the span check removed."""
    found = {}
    for name, step in steps.items():
        found[f"kept/{name}"] = float(len(step.points))
        found[f"right/{name}"] = float(rightness(step.points, labels).mean())
    before, kept = steps["extracted"].points, set(map(id, steps["checked"].points))
    removed = np.array([id(point) not in kept for point in before])
    invented = invented_points(before)
    found["invented"] = float(invented.mean())
    found["removed/invented"] = share(removed[invented])
    found["removed/quoted"] = share(removed[~invented])
    return found


def share(hits: np.ndarray) -> float:
    """Their mean; NaN of none."""
    return float(hits.mean()) if hits.size else float("nan")


def drawn_pairs(rng: np.random.Generator, labels: np.ndarray, count: int) -> np.ndarray:
    """[count, 2] numbers of answers: by a random principle the first is better, and it is so."""
    pairs = np.zeros((0, 2), int)
    while len(pairs) < count:
        both = rng.integers(len(labels), size=(4 * count, 2))
        k = rng.integers(labels.shape[1], size=4 * count)
        better = labels[both[:, 0], k] & ~labels[both[:, 1], k]
        pairs = np.concatenate([pairs, both[better]])
    return pairs[:count]


def shop_world(config: Config, seed: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Counts of the pipeline, and the arrays from which the rewards are fitted and measured."""
    sizes = config.shop
    texts, labels = true_labels(seed, np.arange(sizes.answers), 1)
    steps = pipeline(seed, labels, config)
    vocabulary = fit_ngrams(texts, max_features=sizes.words, max_n=1)
    pool, truth = true_labels(seed, HELD_OUT + np.arange(sizes.prompts), sizes.pool)
    arrays = {"pool": answer_features(vocabulary, pool, sizes.words), "truth": truth}
    x = answer_features(vocabulary, texts, sizes.words)
    for name in ("merged", "checked"):
        arrays |= {f"{name}/{k}": v for k, v in points_arrays(steps[name].points, x).items()}
    rng = np.random.default_rng([config.seed, seed])
    pairs = drawn_pairs(rng, labels, len(steps["merged"].points))
    return counted(steps, labels), arrays | {"pairs": x[pairs]}


def points_arrays(points: tuple[PrinciplePoint, ...], x: np.ndarray) -> dict[str, np.ndarray]:
    """Points as the columns of a batch."""
    return {
        "x": x[_rows(points)],
        "heads": _heads(points),
        "labels": np.array([point.verdict == YES for point in points]),
        "weights": np.ones(len(points), np.float32),
    }


def stacked(worlds: list[np.ndarray]) -> np.ndarray:
    """[S, N, ...] from rows of worlds with different numbers of them, filled up with zeros."""
    most = max(map(len, worlds))
    return np.stack([np.pad(x, [(0, most - len(x)), *[(0, 0)] * (x.ndim - 1)]) for x in worlds])


def shop_scores(arrays: dict[str, jax.Array], config: Config) -> jax.Array:
    """[R, K, N] scores of the pool by REWARDS under each principle, of one world."""
    told = {}
    for name in ("merged", "checked"):
        given = (arrays[f"{name}/{key}"] for key in ("x", "heads", "labels", "weights"))
        told[name] = fit_heads(config, *given, heads=len(NAMES))
    weights = arrays["merged/weights"]
    pairs = fit_pairs(config, *jnp.moveaxis(arrays["pairs"], 1, 0), weights)
    blind = fit_blind(config, arrays["merged/x"], arrays["merged/labels"], weights)
    flat = (jnp.broadcast_to(w, told["merged"].shape) for w in (pairs, blind))
    return jnp.stack([told["merged"], told["checked"], *flat]) @ arrays["pool"].T


def shop_study(config: Config) -> dict[str, np.ndarray]:
    """Counts [S], areas under the curve [S, R, K], and best of the pool [S, R + 2, K]."""
    worlds = [shop_world(config, config.seed + s) for s in range(config.shop.num_seeds)]
    arrays = {name: stacked([world[1][name] for world in worlds]) for name in worlds[0][1]}
    scores = np.asarray(jax.jit(jax.vmap(partial(shop_scores, config=config)))(arrays))
    found = {name: np.array([world[0][name] for world in worlds]) for name in worlds[0][0]}
    truth = np.moveaxis(arrays["truth"], -1, 1)  # [S, K, N]
    found["area"] = np.array(
        [
            [
                [area_under_curve(one, yes) for one, yes in zip(by, known, strict=True)]
                for by in world
            ]
            for world, known in zip(scores, truth, strict=True)
        ]
    )
    found["best"] = best_followed(scores, truth, config)
    return found


def best_followed(scores: np.ndarray, truth: np.ndarray, config: Config) -> np.ndarray:
    """[S, R + 2, K] share of prompts in which the answer with the best score follows; then of all
    answers, and of prompts with an answer that does. Of equal scores the first answer is taken.

    Args:
      scores: [S, R, K, N]. truth: [S, K, N].
    """
    shape = (config.shop.prompts, config.shop.pool)
    first = scores.reshape(*scores.shape[:-1], *shape).argmax(-1)
    known = np.broadcast_to(truth[:, None], scores.shape)
    known = known.reshape(*scores.shape[:-1], *shape)
    taken = np.take_along_axis(known, first[..., None], -1)[..., 0].mean(-1)
    chance = truth.mean(-1)[:, None]
    oracle = truth.reshape(*truth.shape[:-1], *shape).any(-1).mean(-1)[:, None]
    return np.concatenate([taken, chance, oracle], axis=1)
