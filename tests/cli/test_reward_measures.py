"""Numbers of reward models by hand, and which pairs count as one."""

import numpy as np
import pytest

from rlhf_jax.cli.data import dialogue_numbers, text_of
from rlhf_jax.cli.reward_measures import (
    length_direction,
    length_margins,
    margin_quality,
    reliability,
)


def test_quality_of_margins_by_hand():
    """Three pairs of four in the right order; sigmoid(2) = 0.8808; log losses 0.1269 and 2.1269."""
    margins = np.array([2.0, 2.0, 2.0, -2.0])
    found = margin_quality(margins, np.arange(4))
    assert found["accuracy"][0] == 0.75
    assert found["log loss"][0] == pytest.approx(0.6269, abs=1e-4)
    assert found["calibration error"][0] == pytest.approx(0.8808 - 0.75, abs=1e-4)
    (full,) = [each for each in reliability(margins)["bins"] if each[2]]
    assert full == pytest.approx([0.8808, 0.75, 1.0], abs=1e-4)


def test_intervals_count_pairs_of_one_dialogue_once():
    margins = np.array([2.0, 2.0, 1.0, -2.0, -1.0])
    once = margin_quality(margins, np.arange(5))
    twice = margin_quality(np.repeat(margins, 2), np.repeat(np.arange(5), 2))
    for name in ("accuracy", "log loss", "calibration error"):
        assert twice[name] == pytest.approx(once[name], abs=1e-6)


def test_a_calibrated_model_has_an_error_too():
    """Confidence 1/2 in 100 pairs: E|mean - 1/2| is 0.5 sqrt(2 / (100 pi)) = 0.0399."""
    sure, unsure = (margin_quality(np.full(100, m), np.arange(100)) for m in (20.0, 1e-6))
    assert sure["calibration error if calibrated"] < 1e-6
    assert unsure["calibration error if calibrated"] == pytest.approx(0.0399, abs=0.005)


def test_lengths_are_characters_of_texts_and_of_messages():
    long, short = "ab\u2019\u2019", [{"role": "assistant", "content": "abc"}]
    assert text_of(short) == "abc"
    records = [{"chosen": long, "rejected": short}, {"chosen": short, "rejected": long}]
    assert length_margins(records).tolist() == [1.0, -1.0]
    assert length_direction(records) == 1.0
    assert length_direction(records[1:]) == -1.0


def test_turns_of_one_dialogue_are_one_group_as_texts_and_as_messages():
    first, more = (
        "\n\nHuman: a\n\nAssistant:",
        "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
    )
    texts = [first, more, "\n\nHuman: d\n\nAssistant:"]
    # Ten rows and more, so that two of one dialogue are no greeting.
    others = [f"\n\nHuman: {i}\n\nAssistant:" for i in range(20)]
    found = dialogue_numbers([{"prompt": text} for text in [*texts, *others]])
    assert found[:3].tolist() == [0, 0, 1]
    ask, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    messages = [[ask], [ask, answer, {"role": "user", "content": "c"}]]
    rest = [[{"role": "user", "content": text}] for text in others]
    assert dialogue_numbers([{"prompt": each} for each in [*messages, *rest]])[:2].tolist() == [
        0,
        0,
    ]
    # Documents have no prompts: each is its own.
    assert dialogue_numbers([{"prompt": ""}] * 3).tolist() == [0, 1, 2]
