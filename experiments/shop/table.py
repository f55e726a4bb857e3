"""The table: a row for each method, and for answers that no policy drew, the yardsticks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.shop.config import Config
from experiments.shop.evaluate import COOLER
from experiments.shop.tools import Trained
from rlhf_jax.envs import shop
from rlhf_jax.labs.shop import SPLITS
from rlhf_jax.ops.statistics import best_of_n_kl, mean_with_interval, wins
from rlhf_jax.reports.claims import Table

NAMES = {
    "dpo": "DPO",
    "ipo": "IPO",
    "online_dpo": "online DPO",
    "ppo": "PPO",
    "ppo_no_kl": "PPO, no KL, DPO's reward",
    "ppo_gold": "PPO on gold",
}
# Answers that no policy drew: the yardsticks of the claims.
WRITTEN: dict[str, Callable[[int, shop.Prompt], str]] = {
    "ideal": lambda seed, prompt: shop.ideal_answer(prompt),
    "declining": lambda seed, prompt: "i am sorry , i cannot help with that .",
    "lying": lambda seed, prompt: shop.mode_answer(
        seed, prompt, 0, "lying" if prompt.task == "recommend" else "good"
    ),
}


class Method(NamedTuple):
    """One row of the table, from one answer to each prompt, of best-of-n to the first of them.

    gold: [N]. greedy: [M] gold of greedy answers to M prompts. axes: [N, 6]. win_rate: mean, low,
    high against SFT. kl: nats per answer. score: of the reward model, normalised. length: tokens.
    texts: [N]. What there is not, e.g. the KL of answers that no policy drew, is NaN.
    """

    gold: np.ndarray
    greedy: np.ndarray
    axes: np.ndarray
    win_rate: np.ndarray
    kl: float
    score: float
    length: float
    seconds: float
    texts: list[str]


def table_rows(
    config: Config, measured, best, trained: Trained, seconds: dict[str, float]
) -> dict[str, Method]:
    """One Method for each row of the table, by its printed name."""

    def method(arrays, texts, kl: float, spent: float) -> Method:
        return Method(
            gold=arrays["gold"],
            greedy=arrays.get("greedy", np.full(1, np.nan)),
            axes=arrays["axes"],
            win_rate=_win_rate(arrays["gold"], measured.arrays["sft"]["gold"]),
            kl=kl,
            score=(arrays["scores"].mean() - trained.scale.mean) / trained.scale.std,
            length=arrays["lengths"].mean(),
            seconds=spent,
            texts=texts,
        )

    texts = measured.info["texts"]
    rows = {"SFT": method(measured.arrays["sft"], texts["sft"], 0.0, 0.0)}
    cooler = (measured.arrays["sft_cooler"], texts["sft_cooler"])
    rows[f"SFT at {COOLER}"] = method(*cooler, np.nan, 0.0)
    n = config.evaluation.best_of
    kl = float(best_of_n_kl(jnp.asarray(n)))
    rows[f"best of {n}"] = method(best.arrays, best.info["texts"], kl, best.seconds)
    for name, printed in NAMES.items():
        if name not in measured.arrays:
            continue
        arrays = measured.arrays[name]
        kl = float(arrays["log_ratios"].mean())
        rows[printed] = method(arrays, texts[name], kl, seconds[name])
    indices = np.array(SPLITS["heldout"][: config.evaluation.prompts])
    for printed, write in WRITTEN.items():
        prompts = [shop.make_prompt(config.seed, int(i)) for i in indices]
        answers = [write(config.seed, prompt) for prompt in prompts]
        rows[printed] = method(written(prompts, answers), answers, np.nan, 0.0)
    return rows


def written(prompts: Sequence[shop.Prompt], answers: Sequence[str]) -> dict[str, np.ndarray]:
    """The scores of answers that no policy drew, in the form of `measure`."""
    found = [shop.score(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    return {
        "gold": np.array([one.overall for one in found]),
        "axes": np.stack([one.vector() for one in found]),
        "scores": np.full(len(found), np.nan),
        "lengths": np.array([len(answer.split()) + 1 for answer in answers]),
    }


def methods_table(methods: Mapping[str, Method]) -> Table:
    """method x gold score per axis, win rate, KL, score, length, seconds."""
    rows = [
        (
            name,
            f"{m.gold.mean():.3f}",
            _greedy(m, methods["SFT"]),
            *(f"{value:.2f}" for value in m.axes.mean(0)),
            "" if name == "SFT" else "{:.2f} [{:.2f}, {:.2f}]".format(*m.win_rate),
            _number(m.kl, ".1f"),
            _number(m.score, ".2f"),
            f"{m.length:.1f}",
            f"{m.seconds:.0f}",
        )
        for name, m in methods.items()
    ]
    headers = ("method", "gold", "greedy [95%]", *shop.AXES, "win [95%]", "KL", "RM", "tokens", "s")
    note = (
        "gold and axes in [0, 1]; greedy: gold of the answer of likeliest tokens, and less that of "
        "SFT; a sharper policy alone, as SFT at a lower temperature, does not raise it; win rate "
        "over SFT, ties one half; KL to SFT in nats per answer (best-of-n: its upper bound); RM: "
        "score in standard deviations of SFT answers"
    )
    return Table("Gold score of every method on held-out prompts", headers, rows, note=note)


def summary(method: Method) -> dict[str, Any]:
    """The numbers of one row as JSON."""
    return {
        "gold": float(method.gold.mean()),
        "greedy": None if np.isnan(method.greedy).any() else float(method.greedy.mean()),
        "axes": dict(zip(shop.AXES, method.axes.mean(0).tolist(), strict=True)),
        "win_rate": method.win_rate.tolist(),
        "kl": None if np.isnan(method.kl) else method.kl,
        "score": None if np.isnan(method.score) else float(method.score),
        "length": float(method.length),
    }


def _win_rate(gold: np.ndarray, sft: np.ndarray) -> np.ndarray:
    """Mean, low and high of wins over SFT on the prompts that there are."""
    won = wins(jnp.asarray(gold), jnp.asarray(sft[: len(gold)]))
    return np.asarray(mean_with_interval(won))


def _greedy(method: Method, sft: Method) -> str:
    """Gold of greedy answers, and over SFT's with its interval."""
    if np.isnan(method.greedy).any():
        return ""
    more = np.asarray(mean_with_interval(jnp.asarray(method.greedy - sft.greedy)))
    over = "" if not more.any() else " ({:+.3f} [{:.3f}, {:.3f}])".format(*more)
    return f"{method.greedy.mean():.3f}{over}"


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)
