"""The whole job: SFT, reward model, then five ways to use it, judged by the gold scorer."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop.claims import accuracy_claim, win_claims
from experiments.shop.config import Config
from experiments.shop.evaluate import axes_of, heldout_indices, measure
from experiments.shop.fit import (
    fit_direct,
    fit_online_dpo,
    fit_ppo,
    fit_reward,
    fit_sft,
)
from experiments.shop.report import Method, write_report
from experiments.shop.tools import Tools, Trained, make_tools
from rlhf_jax import dpo_loss, ipo_loss
from rlhf_jax.labs.shop import base_corpus
from rlhf_jax.ops.statistics import best_of_n_kl, mean_with_interval, wins
from rlhf_jax.recipes import reference_logps, sample_pairs, stage_key
from rlhf_jax.recipes.evaluation import best_of_n
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.pairs import open_pairs
from rlhf_jax.recipes.rows import Records
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Run, Stage, check_stop, progress_bar, run_stage, write_metrics
from rlhf_jax.types import Params

NAMES = {
    "dpo": "DPO",
    "ipo": "IPO",
    "online_dpo": "online DPO",
    "ppo": "PPO",
    "ppo_no_kl": "PPO, no KL",
}
CLAIMED = ("dpo", "online_dpo", "ppo")


def run(config: Config, job: Run) -> Outcome:
    """Trains every method and checks that the gold scorer prefers them to SFT."""
    tools = make_tools(config, job.out / "data")
    corpus = base_corpus(config.seed, config.sft.rows, job.out / "data")
    like_policy, like_reward = shapes(tools.lab.policy.init), shapes(tools.lab.reward.init)

    sft = run_stage(job, "sft", lambda stage: fit_sft(stage, tools, corpus), like=like_policy)
    run_stage(job, "pairs", lambda stage: label(stage.run, tools, sft.arrays))
    train, heldout = (
        open_pairs(job.out / "data", f"shop_pairs_{split}", split) for split in ("train", "heldout")
    )
    reward = run_stage(
        job,
        "reward_model",
        lambda stage: fit_reward(stage, tools, sft.arrays, train, heldout),
        like=like_reward,
    )
    scale = ScoreScale(reward.info["mean"], reward.info["std"])
    trained = Trained(sft.arrays, reward.arrays, scale)

    reference = run_stage(job, "reference", lambda stage: (refer(tools, sft.arrays, train), {}))
    pairs = {"pairs": train, "reference": reference.arrays}
    direct = partial(fit_direct, tools=tools, trained=trained, **pairs)
    online = partial(fit_ppo, tools=tools, trained=trained)
    fits: dict[str, Callable[[Stage], tuple[Params, dict]]] = {
        "dpo": partial(direct, config=config.dpo, loss=dpo_loss),
        "ipo": partial(direct, config=config.ipo, loss=ipo_loss),
        "online_dpo": partial(fit_online_dpo, tools=tools, trained=trained),
        "ppo": partial(online, beta=config.ppo.beta, steps=config.ppo.steps),
        "ppo_no_kl": partial(online, beta=0.0, steps=config.ppo.free_steps),
    }
    results = {name: run_stage(job, name, fit, like=like_policy) for name, fit in fits.items()}

    params = {"sft": sft.arrays} | {name: result.arrays for name, result in results.items()}
    measured = run_stage(job, "evaluation", lambda stage: judge(stage.run, tools, trained, params))
    best = run_stage(job, "best_of_n", lambda stage: best_of(stage, tools, trained))

    seconds = {name: result.seconds for name, result in results.items()}
    methods = table_rows(config, measured, best, trained, sft.seconds, seconds)
    names = (f"best of {config.evaluation.best_of}", *(NAMES[name] for name in CLAIMED))
    claims = [
        accuracy_claim(reward.info["margins"]),
        *win_claims(methods, names, best.arrays["all_gold"][:, 0]),
    ]
    return write_report(job, tools, methods, claims, reward.info, best.arrays)


def shapes(init) -> Params:
    """The structure and shapes of a model's params, nothing computed."""
    return jax.eval_shape(init, jax.random.key(0))


def label(job: Run, tools: Tools, params: Params) -> tuple[Any, dict]:
    """Samples and labels the pairs of both splits; the records are their own result."""
    config, splits = tools.config.reward, tools.task.splits
    numbers = {
        "train": splits["pairs"][: config.pairs],
        "heldout": splits["heldout_pairs"][: config.heldout_pairs],
    }
    sample = partial(sample_pairs, job, tools.lab, tools.task, params, facts=asdict(config))
    remedy = "raise sft.steps or lower tie_gap"
    return {}, {
        split: len(
            sample(np.array(indices), name=f"shop_pairs_{split}", split=split, remedy=remedy)
        )
        for split, indices in numbers.items()
    }


def refer(tools: Tools, sft: Params, pairs: Records) -> dict[str, np.ndarray]:
    """Log-probs of the training pairs under SFT, the reference of DPO and IPO."""
    return reference_logps(tools.lab, sft, pairs, batch_size=tools.config.dpo.batch_size)


def judge(
    job: Run, tools: Tools, trained: Trained, params: dict[str, Params]
) -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """One answer of every policy to each held-out prompt."""
    indices = heldout_indices(tools, tools.config.evaluation.prompts)
    arrays, texts = {}, {}
    with progress_bar("evaluation", len(params), show=job.progress) as advance:
        for name, one in params.items():
            check_stop(job, f"evaluating {name}")
            found = measure(tools, one, trained, indices)
            texts[name] = found.texts
            arrays[name] = {k: v for k, v in found._asdict().items() if k != "texts"}
            advance(len(texts))
    return arrays, {"texts": texts}


def best_of(stage: Stage, tools: Tools, trained: Trained) -> tuple[dict[str, np.ndarray], dict]:
    """n answers of the SFT policy to each held-out prompt, and which of them is chosen."""
    lab, config = tools.lab, tools.config.evaluation
    indices, key = heldout_indices(tools, config.prompts), stage_key(lab, "best of n")
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


def table_rows(
    config: Config, measured, best, trained: Trained, sft_seconds: float, seconds: dict[str, float]
) -> dict[str, Method]:
    """One Method for each row of the table, by its printed name."""
    baseline = jnp.asarray(measured.arrays["sft"]["gold"])

    def method(arrays, texts, kl: float, spent: float) -> Method:
        return Method(
            gold=arrays["gold"],
            axes=arrays["axes"].mean(0),
            win_rate=np.asarray(mean_with_interval(wins(jnp.asarray(arrays["gold"]), baseline))),
            kl=kl,
            score=(arrays["scores"].mean() - trained.scale.mean) / trained.scale.std,
            length=arrays["lengths"].mean(),
            seconds=spent,
            texts=texts,
        )

    texts = measured.info["texts"]
    rows = {"SFT": method(measured.arrays["sft"], texts["sft"], 0.0, sft_seconds)}
    n = config.evaluation.best_of
    kl = float(best_of_n_kl(jnp.asarray(n)))
    rows[f"best of {n}"] = method(best.arrays, best.info["texts"], kl, best.seconds)
    for name, printed in NAMES.items():
        arrays = measured.arrays[name]
        kl = float(arrays["log_ratios"].mean())
        rows[printed] = method(arrays, texts[name], kl, seconds[name])
    return rows
