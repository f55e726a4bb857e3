"""Options that a claim, a fit or a table could not use are refused before the run, by name."""

import importlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

SLUGS = sorted(path.parent.name for path in Path("experiments").glob("*/config.py"))

BAD = [
    ("mnpo", {"ref_weights": (0.02,)}),  # the fixed points are compared at 0.1
    ("mnpo", {"ref_weights": (0.1, 0.5)}),  # no limit of eta is known at 0.5
    ("mnpo", {"etas": (0.5, 4.0)}),
    ("mnpo", {"etas": (0.5, 1.0)}),  # no cell above the limit
    ("mnpo", {"etas": ()}),
    ("mnpo", {"players": ()}),
    ("mnpo", {"horizons": (100, 200, 6400)}),
    ("spo", {"horizons": (100, 400, 1600)}),
    ("spo", {"queues": (32,)}),  # nothing to compare with
    ("spo", {"queues": (32, 32, 64)}),
    ("spo", {"margins": ()}),
    ("egpo", {"noise_etas": (0.1, 0.3)}),  # a slope needs three
    ("egpo", {"samples": (1, 1, 10)}),
    ("cpl", {"sizes": (300, 300, 1000)}),
    ("cpl", {"shares": (0.3, 0.3)}),
    ("regret_preference", {"sizes": (400, 1000)}),  # a claim is about up to 300 pairs
    ("regret_preference", {"sizes": (30, 30)}),
    ("inpo", {"hedge_updates": (400, 100, 1600)}),
    ("nash_mp", {"betas": (0.1, 0.1, 0.05)}),
    ("nash_mp", {"random_games": 8}),  # claims are about games of 3 to 29 answers
    ("nlhf", {"points": 5}),  # two of them in the range that is fitted
    ("heron", {"sigmas": (1.0,)}),  # no step from one to the next
    ("heron", {"scales": ()}),
]


@pytest.mark.parametrize(("slug", "change"), BAD)
def test_what_the_claims_cannot_use_is_refused_by_name(slug, change):
    (name,) = change
    config = importlib.import_module(f"experiments.{slug}.config")
    with pytest.raises(ValueError, match=f"^{name} must"):
        config.Config(**change)


def test_a_table_of_all_strings_has_a_limit():
    config = importlib.import_module("experiments.rl_perspective.config")
    with pytest.raises(ValueError, match=r"must be at most 2\^20, got 4\^20"):
        config.Tokens(length=20)


def test_every_size_of_every_experiment_is_valid():
    for slug in sorted({slug for slug, _ in BAD} | {"rl_perspective"}):
        config = importlib.import_module(f"experiments.{slug}.config")
        assert isinstance(config.default(), config.Config)
        assert isinstance(config.quick(), config.Config)


def numbers(config: Any) -> Iterator[tuple[Any, str, Any]]:
    """Every number, and tuple of numbers, of a config and of the configs in it, with its name."""
    for field in fields(config):
        value = getattr(config, field.name)
        first = value[0] if isinstance(value, tuple) and value else value
        if is_dataclass(value):
            yield from numbers(value)
        elif isinstance(first, int | float) and not isinstance(first, bool):
            yield config, field.name, value


@pytest.mark.parametrize("slug", SLUGS)
def test_no_option_takes_nan_or_minus_one_of_a_thing_or_a_rate_of_1e30(slug):
    """Each would run for minutes and end in NaN, or in an error that does not name it."""
    config = importlib.import_module(f"experiments.{slug}.config").default()
    for record, name, value in numbers(config):
        first = value[0] if isinstance(value, tuple) else value
        bad = [-1] if isinstance(first, int) else [float("nan"), float("-inf")]
        for wrong in bad + [1e30] * name.endswith("rate"):
            changed = (wrong, *value[1:]) if isinstance(value, tuple) else wrong
            with pytest.raises(ValueError, match=rf"\b{name}\b.* must "):
                replace(record, **{name: changed})


@pytest.mark.parametrize("slug", SLUGS)
def test_seeds_that_a_key_would_cut_are_refused(slug):
    """jax.random.key keeps 32 bits: 2^32 would be 0 again."""
    config = importlib.import_module(f"experiments.{slug}.config").default()
    assert replace(config, seed=2**32 - 1).seed == 2**32 - 1
    for seed in (2**32, 2**64):
        with pytest.raises(ValueError, match=r"^seed must be .*\[0, 4294967295\]"):
            replace(config, seed=seed)
