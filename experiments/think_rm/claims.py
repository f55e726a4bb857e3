"""What think_rm claims, from the arrays of its stages; seeds are the units."""

from collections.abc import Mapping

import numpy as np

from experiments.think_rm.config import Config
from experiments.think_rm.judges import SHUFFLED
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim, share_claim

Arrays = Mapping[str, np.ndarray]
ROUND = 1e-5  # of float32, in advantages of size 1


def all_claims(config: Config, stages: Mapping[str, Arrays]) -> list[Claim]:
    """In the order of the page."""
    return [
        *identity_claims(stages["identities"]),
        *bandit_claims(config, stages["bandits"]),
        *judge_claims(config, stages["judges"]),
    ]


def identity_claims(found: Arrays) -> list[Claim]:
    """Advantages of comparisons that are differences of scores."""
    return [
        Claim(
            "groups of 6, comparisons r_i - r_j: pairwise advantages less GRPO's, at most",
            found["error"].max(),
            "<=",
            ROUND,
            kind="theorem",
            source="sum_ij D_ij^2 = 2 G sum_i (r_i - mean)^2 (derived)",
            baseline=("binary verdicts over 8,000 characters", abs(1 - found["shrunk"]).max()),
        )
    ]


def bandit_claims(config: Config, found: Arrays) -> list[Claim]:
    """Regret at the end: pairs against one reference answer."""
    last = {name: regrets[:, -1] for name, regrets in found.items()}
    steps, about = config.bandit.steps, {"kind": "ours", "source": "derived for this bandit"}
    paper = {"kind": "paper", "source": "pairwise RLHF beats conversion to pointwise scores"}
    pairs = {
        "graded": ("pairwise graded", "pointwise graded"),
        "binary": ("pairwise binary", "pointwise win or lose"),
    }
    return [
        bootstrap_claim(
            f"step {steps}: mean regret of pointwise win or lose over that of pairwise binary",
            lambda low, high: float(high.mean() / low.mean()),
            [last["pairwise binary"], last["pointwise win or lose"]],
            ">=",
            5,
            baseline=(
                "pointwise graded over pairwise graded",
                last["pointwise graded"].mean() / last["pairwise graded"].mean(),
            ),
            **about,
        ),
        *(
            share_claim(
                f"step {steps}, {name} verdicts{where}: share of bandits where pairs end better",
                last[pair] < last[f"{point}{where}"],
                ">=",
                0.5,
                **paper,
            )
            for name, (pair, point) in pairs.items()
            for where in ("", ", equal calls")
        ),
        share_claim(
            f"step {steps}, binary verdicts: share of bandits where pairs end better",
            last["pairwise binary"] < last["pointwise win or lose"],
            ">=",
            0.9,
            kind="ours",
            source="18 in 20, asked of this bandit before it was run here",
            baseline=("than graded", np.mean(last["pairwise binary"] < last["pairwise graded"])),
        ),
        *lesser_claims(config, last),
    ]


def lesser_claims(config: Config, last: Arrays) -> list[Claim]:
    """What is lost to the length of judgements, and to verdicts that are missing.

    Args:
      last: regret at the end by method, one number for each bandit.
    """
    steps = config.bandit.steps
    return [
        mean_claim(
            f"step {steps}, binary verdicts over {config.bandit.length:,.0f} characters, 1e-6 in "
            "the root: regret above that without the length",
            last["binary over length"] - last["pairwise binary"],
            ">",
            0,
            kind="ours",
            source="(vi): advantages shrink by 0.088",
            baseline=("the same policy", 0.0),
        ),
        mean_claim(
            f"step {steps}, {config.bandit.lost:.0%} of the binary verdicts lost and masked: "
            "regret above that with all of them",
            last["binary, lost verdicts masked"] - last["pairwise binary"],
            "<=",
            0.02,
            kind="ours",
            source="a fifth of the loss of pointwise win or lose (0.095 in the plan)",
            baseline=(
                "pointwise win or lose",
                (last["pointwise win or lose"] - last["pairwise binary"]).mean(),
            ),
        ),
    ]


def judge_claims(config: Config, found: Arrays) -> list[Claim]:
    """Judges by what they were fitted to, and what the rule adds."""
    accuracy = {name: found[f"{name}/accuracy"] for name in ("longest/sft", "shortest/sft")}
    single, short = accuracy.values()
    voted, votes = found["shortest/sft/vote"], config.judge.votes
    gain = found["longest/rl/accuracy"] - single
    control = found[f"{SHUFFLED}/rl/accuracy"] - single
    paper = {
        "kind": "paper",
        "source": "the longest right judgements; abstract: thinking beats votes",
    }
    rule = {"kind": "paper", "source": "rule-based RL after the warm-up"}
    return [
        mean_claim(
            "judge fitted to the longest right judgements: lead in accuracy over the shortest",
            single - short,
            ">",
            0,
            baseline=("the shortest", 0.0),
            **paper,
        ),
        mean_claim(
            f"one judgement of it against a vote of {votes} of the other: lead in accuracy",
            single - voted,
            ">",
            0,
            baseline=("one of the other against its vote", (short - voted).mean()),
            **paper,
        ),
        mean_claim(
            "longest, then rule-based RL: gain in accuracy",
            gain,
            ">",
            0,
            baseline=("the same with shuffled labels", control.mean()),
            **rule,
        ),
        *thinking_claims(config, found),
    ]


def thinking_claims(config: Config, found: Arrays) -> list[Claim]:
    """What more thinking is worth, and whether the rule makes judges think more."""
    forced, borrowed = found["longest/rl/forced"], found["longest/rl/borrowed"]
    longer = found["random/rl/thinking"] - found["random/sft/thinking"]
    return [
        mean_claim(
            f"the same judge, made to think 0 to {config.judge.columns} columns: gain in accuracy "
            "from first to last",
            forced[:, -1] - forced[:, 0],
            ">",
            0.2,
            kind="ours",
            source="without the last column each difference is as likely as any other",
            baseline=(
                "as many columns, of another comparison",
                (borrowed[:, -1] - borrowed[:, 0]).mean(),
            ),
        ),
        mean_claim(
            "judge fitted to random right judgements: tokens of thinking that RL adds, unpaid",
            longer,
            ">",
            0,
            kind="ours",
            source="the rule pays for verdicts alone; thinking makes them right",
            baseline=(
                "longest with shuffled labels",
                (found[f"{SHUFFLED}/rl/thinking"] - found["longest/sft/thinking"]).mean(),
            ),
        ),
    ]
