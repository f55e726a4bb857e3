"""One fold: train on its training split, measure on its test split."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from experiments.preferences.config import Config
from experiments.preferences.data import (
    PairRows,
    Source,
    first_of_each,
    lost_by_cutting,
    pair_rows,
    take,
    train_vocabulary,
)
from experiments.preferences.tools import Tools, in_batches
from experiments.preferences.training import Models, fit_models
from rlhf_jax.data.padding import PaddedRows
from rlhf_jax.data.preference_files import Pair
from rlhf_jax.data.splits import Fold
from rlhf_jax.data.tokenizer import decode_rows
from rlhf_jax.recipes.ngram_reward import NgramFit, ngram_margins
from rlhf_jax.training import DivergedError, Run, Stage, StageResult, UserError, run_stage
from rlhf_jax.types import Params, Prompts, Vocabulary

Logps = Callable[[Params, PaddedRows, PaddedRows], np.ndarray]  # of answers to prompts, [N]


class FoldData(NamedTuple):
    """A fold's pairs as texts and, in the ids of its vocabulary, as arrays.

    asked: the test rows whose prompts are answered. cut: `lost_by_cutting` of the test rows.
    """

    train: list[Pair]
    test: list[Pair]
    vocabulary: Vocabulary
    train_rows: PairRows
    test_rows: PairRows
    asked: np.ndarray
    cut: dict[str, np.ndarray]


def one_fold(
    job: Run, number: int, *, source: Source, tools: Tools, ngrams: NgramFit, config: Config
) -> StageResult:
    """Trains on a fold's training split, measures on its test split, in four stages.

    Returns:
      arrays: "rows" [n] pair numbers; "margins", method -> [n] score of chosen minus rejected;
        "logps", policy -> [n] nats of the chosen answers; "tokens" [n] in them; "sampled",
        measure -> [m] over sampled answers; "cut", what the lengths cost, from `lost_by_cutting`.
      info: "answers", the texts of a few sampled ones.
    """
    fold, name = source.folds[number], f"fold-{number + 1}"
    data = fold_data(fold, source, config, tools.lab.vocabulary)
    fit_key, sample_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number))
    models = fit_models(job, name, tools, data.train_rows, config, fit_key)

    def logps(params: Params, prompts: PaddedRows, answers: PaddedRows) -> np.ndarray:
        return in_batches(partial(tools.logps, params), (prompts, answers), size=config.batch)

    def work(stage: Stage):
        del stage
        prompts = take(data.test_rows.prompts, data.asked)
        sampled, ids = sample_answers(tools, models, prompts, sample_key, logps)
        margins, chosen_logps = judge_pairs(tools, models, data.test_rows, config, logps)
        margins |= rival_margins(data, ngrams, config, most_rows(source))
        check_finite(name, {"margins": margins, "logps": chosen_logps})
        arrays = {
            "rows": fold.test,
            "margins": margins,
            "logps": chosen_logps,
            "tokens": data.test_rows.chosen.mask.sum(-1),
            "sampled": sampled,
            "cut": data.cut,
        }
        texts = [{"fold": number + 1} | row for row in answer_texts(data, ids, config.kept)]
        return arrays, {"answers": texts}

    return run_stage(job, f"{name}-measures", work)


def fold_data(fold: Fold, source: Source, config: Config, vocabulary: Vocabulary) -> FoldData:
    """Texts and arrays of a fold.

    Args:
      vocabulary: of the trunk; without one its tokenizer is None, and the fold's is trained, on the
        training split only.
    """
    train, test = ([source.pairs[i] for i in part] for part in fold)
    if vocabulary.tokenizer is None:
        vocabulary = train_vocabulary(train, config)
    rows = pair_rows(vocabulary, [*train, *test], config)
    lost = lost_by_cutting(rows, [pair.prompt for pair in (*train, *test)], vocabulary)
    ends = slice(len(train)), slice(len(train), None)
    if lost["equal"][ends[0]].all():
        raise UserError(
            f"{config.data}: the two answers of every pair have the same first "
            f"{config.answer_tokens} tokens; raise --answer-tokens"
        )
    train_rows, test_rows = (take(rows, end) for end in ends)
    asked = first_of_each(source.groups[fold.test], prompts_asked(source, config))
    cut = take(lost, ends[1])
    return FoldData(train, test, vocabulary, train_rows, test_rows, asked, cut)


def judge_pairs(
    tools: Tools, models: Models, held_out: PairRows, config: Config, logps: Logps
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Margins [n] of the reward model and of DPO, and each policy's log-probs of chosen answers.

    DPO's margin is that of its implicit rewards, beta (log pi - log pi_ref).
    """
    policies = {"untrained": models.untrained, "sft": models.sft, "dpo": models.dpo}
    chosen, rejected = (
        {name: logps(params, held_out.prompts, rows) for name, params in policies.items()}
        for rows in (held_out.chosen, held_out.rejected)
    )
    gaps = {name: chosen[name] - rejected[name] for name in policies}
    reward = in_batches(
        lambda *parts: tools.margins(models.reward, PairRows(*parts)), held_out, size=config.batch
    )
    return {"reward": reward, "dpo": config.beta * (gaps["dpo"] - gaps["sft"])}, chosen


def rival_margins(
    data: FoldData, fit: NgramFit, config: Config, room: int
) -> dict[str, np.ndarray]:
    """Margins [n] of rules and n-grams.

    "length" prefers the longer answer, "length_rule" the longer or the shorter one, whichever is
    right more often in training. "ngrams_cut" has the tokens alone that the models read of an
    answer, "ngrams_quarter" the first quarter of the training pairs.
    """
    longer, known = length_margins(data.test), length_margins(data.train)
    shorter_wins = np.sum(known < 0) > np.sum(known > 0)
    cut = [read_pairs(data.vocabulary, rows) for rows in (data.train_rows, data.test_rows)]
    sides = {
        "ngrams": (data.train, data.test),
        "ngrams_cut": tuple(cut),
        "ngrams_quarter": (data.train[: max(1, len(data.train) // 4)], data.test),
    }
    rivals = {name: ngram_margins(fit, *each, config.ngrams, room) for name, each in sides.items()}
    return {"length": longer, "length_rule": -longer if shorter_wins else longer, **rivals}


def read_pairs(vocabulary: Vocabulary, rows: PairRows) -> list[Pair]:
    """The part of each answer that the models read, as texts without their prompts."""
    texts = (
        decode_rows(vocabulary, answers.ids.tolist()) for answers in (rows.chosen, rows.rejected)
    )
    return [Pair("", *pair) for pair in zip(*texts, strict=True)]


def length_margins(pairs: Sequence[Pair]) -> np.ndarray:
    """[N] characters of the chosen answer minus those of the rejected one: "longer wins"."""
    return np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs], np.float64)


def check_finite(fold: str, measured: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Raises DivergedError if a fitted model's numbers are not: no mean is taken over them."""
    for what, arrays in measured.items():
        for model, values in arrays.items():
            if not np.isfinite(values).all():
                raise DivergedError(
                    f"{fold}: {what} of {model} are not finite; lower its learning_rate, or l2"
                )


def sample_answers(
    tools: Tools, models: Models, prompts: PaddedRows, key: jax.Array, logps: Logps
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One answer of each policy to each prompt: measures [m], and token ids [m, T]."""
    answers = {}
    for name, params in (("sft", models.sft), ("dpo", models.dpo)):
        asked = Prompts(tuple(prompts), np.arange(len(prompts.ids)))
        drawn = tools.lab.draw(params, asked, key, 1).trajectory
        answers[name] = PaddedRows(np.asarray(drawn.actions[:, 0]), np.asarray(drawn.mask[:, 0]))
    measures = {f"{name}_length": rows.mask.sum(-1) for name, rows in answers.items()}
    # k1, at samples from DPO.
    measures["kl"] = logps(models.dpo, prompts, answers["dpo"]) - logps(
        models.sft, prompts, answers["dpo"]
    )
    return measures, {name: rows.ids for name, rows in answers.items()}


def answer_texts(
    data: FoldData, ids: dict[str, np.ndarray], count: int
) -> Iterator[dict[str, str]]:
    """The first few prompts and, for each policy, the text of its answer."""
    texts = {name: decode_rows(data.vocabulary, rows.tolist()) for name, rows in ids.items()}
    for i, row in enumerate(data.asked[:count]):
        yield {"prompt": data.test[row].prompt} | {name: text[i] for name, text in texts.items()}


def most_rows(source: Source) -> int:
    """Pairs in the largest training split: what every fold is compiled for."""
    return max(len(fold.train) for fold in source.folds)


def prompts_asked(source: Source, config: Config) -> int:
    """How many dialogues of each fold are answered: the same number in all, for one compilation."""
    smallest = min(len(np.unique(source.groups[fold.test])) for fold in source.folds)
    return min(config.sampled, smallest)
