"""Sizes and findings at toy size, for the tests of shop_methods."""

from dataclasses import replace

import numpy as np

from experiments.shop_methods import config, findings, measure
from rlhf_jax.labs.size import Size

TINY = Size(d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, d_ff=16)
TOY = replace(
    config.quick(),
    size=TINY,
    from_scratch=True,
    data=config.Data(prompts=48, labels=16, heldout=32, tie_gap=0.0),
    reward=config.Reward(steps=2),
    offline=config.Offline(steps=2, batch_size=16),
    online=config.Online(steps=1, answers=32),
    controls=config.Controls(steps=0),
    evaluation=config.Evaluation(prompts=8, validation=8, best_of=2, texts=4),
)


def numbers(gold, kl=0.0):
    return measure.Numbers(
        gold=np.full((2, 2), gold),
        axes={"helpful": np.full((2, 2), gold)},
        win_rate=np.full(2, 0.5),
        kl=kl,
        entropy=1.0,
        length=5.0,
        distinct=1.0,
        score=0.0,
        forgetting=2.0,
        seconds=1.0,
        tokens=10.0,
    )


def made(golds, kls=None, changes=None, filtered=None):
    """Findings of three seeds. golds: method -> three; kls: the same."""
    kls = kls or {}
    each = {
        name: [numbers(g, k) for g, k in zip(golds[name], kls.get(name, [0.0] * 3), strict=True)]
        for name in golds
    }
    start = [numbers(0.5) for _ in range(3)]
    best = [{"named": {}} for _ in range(3)]
    quality = [{"implied": x, "head": 0.5} for x in (0.70, 0.71, 0.72)]
    base = [numbers(0.0)] if "direct_rl" in golds else []
    about = (start, base, best, quality, changes or {}, filtered or {})
    return findings.Findings(each, {}, {}, *about)
