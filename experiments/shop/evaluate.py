"""Measuring a policy on held-out prompts: gold scores, reward-model scores, KL, length."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.shop.tools import Tools, Trained
from rlhf_jax.envs import shop
from rlhf_jax.labs.shop_models import competence
from rlhf_jax.recipes import at_temperature, evaluation, stage_key
from rlhf_jax.recipes.evaluation import best_of_n
from rlhf_jax.training import Run, Stage, check_stop, progress_bar, write_metrics
from rlhf_jax.types import Params

BASE_PROMPTS = 256  # of the base model, the baseline of the gates
COOLER = 0.9  # temperature of "sft_cooler": a sharper policy without training


class Measured(NamedTuple):
    """One answer to each of N prompts.

    texts: the answers. axes: [N, 6] in the order of shop.AXES. gold: [N] overall. scores: [N]
    reward model. log_ratios: [N] log pi - log pi_ref of the answer, whose mean estimates
    KL(pi || pi_ref) in nats per answer. lengths: [N] tokens, <eos> included.
    """

    texts: list[str]
    axes: np.ndarray
    gold: np.ndarray
    scores: np.ndarray
    log_ratios: np.ndarray
    lengths: np.ndarray


def heldout_indices(tools: Tools, count: int) -> np.ndarray:
    """The first `count` held-out prompts."""
    return np.array(tools.task.splits["heldout"][:count])


def measure(
    tools: Tools,
    params: Params,
    trained: Trained,
    indices: np.ndarray,
    *,
    temperature: float = 1.0,
) -> Measured:
    """Draws an answer to each prompt and scores it; the draws are the same for all policies."""
    lab, key = at_temperature(tools.judged, temperature), stage_key(tools.lab, "evaluation")
    found = evaluation.measure(
        lab, tools.task, params, trained.sft, indices, key, reward=trained.reward
    )
    scores = np.asarray(found.scores)
    columns = (axes_of(found.named), found.named["gold"], scores, found.log_ratios, found.lengths)
    return Measured([row[0] for row in found.texts], *(x[:, 0] for x in columns))


def axes_of(named: Mapping[str, np.ndarray]) -> np.ndarray:
    """The six axes [..., 6] of answers, in the order of shop.AXES."""
    return np.stack([named[axis] for axis in shop.AXES], axis=-1).astype(np.float32)


def curve_point(
    stage: Stage, tools: Tools, params: Params, step: int, *, sft: Params, reward: Params | None
) -> dict[str, float]:
    """What a training curve records: means over the first held-out prompts, after this step."""
    lab, key = tools.judged, stage_key(tools.lab, "evaluation")
    indices = heldout_indices(tools, tools.config.evaluation.curve_prompts)
    found = evaluation.measure(lab, tools.task, params, sft, indices, key, reward=reward)
    folder = curve_folder(stage.run, stage.name)
    folder.mkdir(parents=True, exist_ok=True)
    gold = found.named["gold"][:, 0]
    np.save(folder / f"{step + 1:06d}.npy", gold)
    scores = {} if found.scores is None else {"heldout/score": float(found.scores.mean())}
    return scores | {
        "heldout/gold": float(gold.mean()),
        "heldout/kl": float(found.log_ratios.mean()),
        "heldout/length": float(found.lengths.mean()),
    }


def curve_folder(job: Run, stage: str) -> Path:
    """Where the gold of each prompt along a training is kept."""
    return job.out / "data" / "curves" / stage


def gold_path(job: Run, stage: str, start: np.ndarray) -> np.ndarray:
    """Gold along a training, [1 + points, N]; first that of SFT, [N] or more of `start`."""
    found = [np.load(path) for path in sorted(curve_folder(job, stage).glob("*.npy"))]
    return np.stack([start[: len(found[0])], *found])


def greedy_gold(tools: Tools, params: Params, sft: Params) -> np.ndarray:
    """Gold [greedy_prompts] of the likeliest answer to each of the first held-out prompts."""
    lab, key = at_temperature(tools.lab, 0.0), stage_key(tools.lab, "evaluation")
    indices = heldout_indices(tools, tools.config.evaluation.greedy_prompts)
    return evaluation.measure(lab, tools.task, params, sft, indices, key).named["gold"][:, 0]


def judge(
    job: Run, tools: Tools, trained: Trained, params: dict[str, Params]
) -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """One answer of every policy to each held-out prompt, and the gold of greedy answers.

    "sft_cooler" is SFT at temperature COOLER.
    """
    indices = heldout_indices(tools, tools.config.evaluation.prompts)
    arrays, texts = {}, {}
    with progress_bar("evaluation", len(params), show=job.progress) as advance:
        for name, one in params.items():
            check_stop(job, f"evaluating {name}")
            found = measure(tools, one, trained, indices)
            greedy = greedy_gold(tools, one, trained.sft)
            texts[name], arrays[name] = found.texts, arrays_of(found) | {"greedy": greedy}
            advance(len(texts))
    found = measure(tools, trained.sft, trained, indices, temperature=COOLER)
    texts["sft_cooler"] = found.texts
    arrays["sft_cooler"] = arrays_of(found) | {"greedy": arrays["sft"]["greedy"]}
    return arrays, {"texts": texts}


def arrays_of(found: Measured) -> dict[str, np.ndarray]:
    """All but the texts."""
    return {name: values for name, values in found._asdict().items() if name != "texts"}


def best_of(stage: Stage, tools: Tools, trained: Trained) -> tuple[dict[str, np.ndarray], dict]:
    """n answers of the SFT policy to each of the first held-out prompts, and which is chosen."""
    lab, config = tools.judged, tools.config.evaluation
    indices, key = heldout_indices(tools, config.best_prompts), stage_key(lab, "best of n")
    models = (trained.sft, trained.reward)
    found = best_of_n(stage.run, lab, tools.task, *models, indices, key, n=config.best_of)
    picked = (np.arange(len(indices)), found.chosen)
    gold = found.named["gold"]
    arrays = {
        "axes": axes_of(found.named)[picked],
        "gold": gold[picked],
        "scores": found.scores[picked],
        "lengths": found.lengths[picked],
        "all_gold": gold,
        "all_scores": found.scores,
    }
    write_metrics(stage.run.writer, stage.name, [(1, {"heldout/gold": arrays["gold"].mean()})])
    return arrays, {"texts": [row[i] for row, i in zip(found.texts, found.chosen, strict=True)]}


def skills_of(tools: Tools, sft: Params, base: Params) -> dict[str, dict[str, np.ndarray]]:
    """What the gates read of an answer to each prompt; of the base model to the first of them."""
    world, count = tools.config.seed, tools.config.evaluation.gate_prompts
    indices = np.array(tools.task.splits["heldout"][:count])
    found = {}
    for name, params, numbers in (("sft", sft, indices), ("base", base, indices[:BASE_PROMPTS])):
        skills = competence(tools.lab, tools.task, params, numbers, world=world)
        found[name] = {skill: x[~np.isnan(x)] for skill, x in skills.items()}
    return found
