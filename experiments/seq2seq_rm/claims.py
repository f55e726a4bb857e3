"""What seq2seq_rm claims, from what its two stages found."""

from collections.abc import Mapping

import numpy as np

from experiments.seq2seq_rm.config import Config
from experiments.seq2seq_rm.learners import ARMS, DENSE, MATCH, RULE, SCALAR
from experiments.seq2seq_rm.lengths import FLAT_FROM
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim

Arrays = Mapping[str, np.ndarray]
FEW = 0  # place of the smallest number of pairs


def final(found: Arrays, arm: str) -> np.ndarray:
    """Share of right tokens at the end [seeds, sizes]."""
    return found["shares"][:, :, ARMS.index(arm), -1]


def average(found: Arrays, arm: str) -> np.ndarray:
    """Mean over training [seeds, sizes]."""
    return found["shares"][:, :, ARMS.index(arm)].mean(-1)


def all_claims(config: Config, found: Arrays, lengths: Arrays) -> list[Claim]:
    """In the order of the README."""
    return [
        *policy_claims(config, found),
        *knowledge_claims(config, found),
        *length_claims(config, lengths),
    ]


def policy_claims(config: Config, found: Arrays) -> list[Claim]:
    """PPO on each reward, `found` of `learners.study`."""
    few, many = config.sizes[FEW], config.sizes[-1]
    rule, scalar, dense = (final(found, arm) for arm in (RULE, SCALAR, DENSE))
    claims = [
        mean_claim(
            f"{few} pairs: final share of right tokens, paper's rule minus scalar at the end",
            (rule - scalar)[:, FEW],
            ">=",
            0.10,
            kind="ours",
            source="0.169 in trials of the design",
            baseline=("scalar by token", (dense - scalar)[:, FEW].mean()),
        )
    ]
    for name, arm in (("paper's rule", RULE), ("every token", MATCH)):
        leads = [measure(found, arm) - measure(found, SCALAR) for measure in (final, average)]
        claims += [
            Claim(
                f"{size} pairs, {name}: least lead over the scalar of any seed, at the end and "
                "over training",
                min(lead[:, i].min() for lead in leads),
                ">",
                0,
                kind="ours",
                source="10 of 10 seeds in trials of the design",
            )
            for i, size in enumerate(config.sizes)
        ]
    # Density and information: how much of the gap a dense scalar closes.
    ends = [values[:, FEW] for values in (rule, scalar, dense)]
    paths = [average(found, arm)[:, -1] for arm in (RULE, SCALAR, DENSE)]
    claims += [
        bootstrap_claim(
            f"{few} pairs: part of the final gap that the scalar by token closes",
            closed,
            ends,
            "<",
            0.5,
            kind="ours",
            source="few comparisons do not say which token is right",
            baseline=(f"over training, {many} pairs", closed(*paths)),
        ),
        bootstrap_claim(
            f"{many} pairs: part of the gap over training that the scalar by token closes",
            closed,
            paths,
            ">=",
            0.5,
            kind="ours",
            source="rewards at every token are learned from faster",
            baseline=(f"at the end, {few} pairs", closed(*ends)),
        ),
    ]
    return claims


def closed(rule: np.ndarray, scalar: np.ndarray, dense: np.ndarray) -> float:
    """(dense - scalar) / (rule - scalar), of means over seeds."""
    return float((dense.mean() - scalar.mean()) / (rule.mean() - scalar.mean()))


def knowledge_claims(config: Config, found: Arrays) -> list[Claim]:
    """Held-out pairs."""
    few = config.sizes[FEW]
    ours, scalar = np.moveaxis(found["accuracy"][:, FEW], -1, 0)
    return [
        mean_claim(
            f"{few} pairs, both maps: share of rejected tokens with agreement where right",
            found["credit"][:, FEW, 0],
            ">=",
            0.97,
            kind="ours",
            source="0.992 in trials of the design",
            baseline=("a copy of the input", found["copied"].mean()),
        ),
        mean_claim(
            f"{few} pairs: held-out accuracy, number of agreements minus scalar",
            ours - scalar,
            ">",
            0,
            kind="ours",
            source="0.987 and 0.957 in trials of the design",
        ),
    ]


def length_claims(config: Config, lengths: Arrays) -> list[Claim]:
    """The length panel, `lengths` of `lengths.length_study`."""
    flat, summed = lengths["returns"][:, FLAT_FROM:], lengths["summed"]
    about = {"kind": "ours", "source": "a = b = 1/T bounds the return by 1"}
    return [
        mean_claim(
            f"divided by length, {config.length_pairs} pairs: range of returns of tails 2 to 10",
            np.ptp(flat, axis=1),
            "<=",
            1e-5,
            baseline=("not divided", np.ptp(summed[:, FLAT_FROM:], axis=1).mean()),
            **about,
        ),
        mean_claim(
            f"divided by length, {config.more_pairs} pairs: range of returns of tails 2 to 10",
            np.ptp(lengths["more"][:, FLAT_FROM:], axis=1),
            "<=",
            1e-5,
            baseline=("not divided", np.ptp(summed[:, FLAT_FROM:], axis=1).mean()),
            **about,
        ),
        mean_claim(
            "not divided: least step of returns from one tail to the next",
            np.diff(summed, axis=1).min(1),
            ">",
            0,
            baseline=("divided by length", np.diff(flat, axis=1).min(1).mean()),
            kind="ours",
            source="every further token that agrees is paid",
        ),
        mean_claim(
            "Bradley-Terry: weight of a tail token",
            lengths["weight"],
            ">",
            0.5,
            kind="ours",
            source="log(3 / 1), the ratio of the laws of tails",
            baseline=("tails of one law", lengths["even"].mean()),
        ),
    ]
