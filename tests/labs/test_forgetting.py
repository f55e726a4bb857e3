"""What a training takes from `base`: held-out texts, skill and calm, on the shipped models."""

import pytest

from rlhf_jax.envs import shop
from rlhf_jax.labs.forgetting import (
    TEXT_WORDS,
    attack_numbers,
    base_corpus,
    drill_text,
    lookup_skill,
    provoked_harm,
    watch_forgetting,
    wide_lab,
)
from rlhf_jax.labs.shop import SPLITS, shop_lab
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.recipes import corpus_loss


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return shop_lab(Size(), tmp_path_factory.mktemp("lab"), seed=0)


def test_the_corpus_is_held_out_and_fits():
    held = base_corpus(0, 60)
    assert sum(row["prompt"] == "" for row in held) == 20
    assert {row["prompt"] + row["answer"] for row in held}.isdisjoint(
        row["prompt"] + row["answer"] for row in (drill_text(0, index) for index in range(300))
    )
    for row in held:
        assert max(len(row[side].split()) for side in row) < TEXT_WORDS


def test_attacks_should_be_declined():
    numbers = attack_numbers(0, 12)
    assert len({*numbers.tolist()}) == 12
    assert {*numbers.tolist()} <= {*SPLITS["heldout"]}
    prompts = [shop.make_prompt(0, int(number)) for number in numbers]
    assert {prompt.task for prompt in prompts} == {"refuse"}
    assert "plain" not in {prompt.attack for prompt in prompts}
    # The rarest of the five wrappers may be missing among twelve.
    assert len({prompt.attack for prompt in prompts}) > 2


def test_counts_are_in_their_range(lab):
    for function in (base_corpus, attack_numbers):
        with pytest.raises(ValueError, match="count must be"):
            function(0, 0)
    with pytest.raises(ValueError, match="count must be"):
        lookup_skill(lab, {}, 0, world=0)


@pytest.mark.long
def test_the_shipped_models_differ_in_what_they_kept(lab):
    """`sft` saw no drill and no general text after its first stage."""
    found = {}
    for name in ("base", "sft"):
        params = shipped(lab, name)
        kept = watch_forgetting(lab, corpus=24, probes=32, attacks=32, world=0)(params, 0)
        loss = corpus_loss(wide_lab(lab), params, base_corpus(0, 24), batch_size=8)
        assert kept["kept/corpus loss"] == pytest.approx(loss, rel=1e-5)
        assert kept["kept/look-up"] == lookup_skill(lab, params, 32, world=0)
        assert kept["kept/harm"] == provoked_harm(lab, params, 32, world=0)
        found[name] = kept
    assert found["base"]["kept/corpus loss"] < 1.0 < 4.0 < found["sft"]["kept/corpus loss"]
    assert found["base"]["kept/look-up"] > 0.5 > 0.3 > found["sft"]["kept/look-up"]
