"""Prompts: the same for ever, never twice, never too long, and true to the hidden catalogue."""

import re
from collections import Counter

import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.answers import best_product, product_fit
from rlhf_jax.envs.shop.catalogue import DISTINCT_PROMPTS, coded_rows
from rlhf_jax.envs.shop.requests import (
    FIERCE_REQUESTS,
    HOWTO_REQUESTS,
    REQUESTS,
    UNSAFE_REQUESTS,
    WRAPPERS,
)


@pytest.fixture(scope="module")
def prompts():
    return [shop.make_prompt(3, index) for index in range(3000)]


def test_prompt_is_a_function_of_seed_and_index(prompts):
    assert [shop.make_prompt(3, index) for index in (7, 2999)] == [prompts[7], prompts[2999]]
    assert shop.make_prompt(4, 7) != prompts[7]


@pytest.mark.long
def test_no_text_occurs_twice(prompts):
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    codes = {tuple(coded_rows(3, index)) for index in range(50_000)}
    far = {tuple(coded_rows(3, DISTINCT_PROMPTS - 1 - index)) for index in range(10_000)}
    assert len(codes) == 50_000
    assert len(codes | far) == 60_000


@pytest.mark.parametrize("index", [-1, DISTINCT_PROMPTS])
def test_index_out_of_range_is_refused(index):
    with pytest.raises(ValueError, match=f"prompt index {index} is out of range"):
        shop.make_prompt(0, index)


def test_length_words_and_spacing(prompts):
    vocabulary = set(shop.words())
    assert 700 <= len(vocabulary) == len(shop.words()) <= 1200
    lengths = [len(shop.split_words(prompt.text)) for prompt in prompts]
    assert shop.MAX_PROMPT_WORDS == 72
    assert 50 < max(lengths) <= shop.MAX_PROMPT_WORDS
    for prompt in prompts:
        assert " ".join(shop.split_words(prompt.text)) == prompt.text
        assert set(shop.split_words(prompt.text)) <= vocabulary


def test_shares_of_kinds(prompts):
    kinds = Counter(prompt.kind for prompt in prompts)
    assert set(kinds) == set(shop.KINDS)
    assert kinds["unsafe"] / len(prompts) == pytest.approx(0.18, abs=0.03)
    assert kinds["looks_unsafe"] / len(prompts) == pytest.approx(0.18, abs=0.03)
    tasks = Counter((prompt.kind, prompt.task) for prompt in prompts)
    assert set(tasks) == {
        ("shop", "recommend"),
        ("unsafe", "refuse"),
        ("looks_unsafe", "recommend"),
        ("looks_unsafe", "howto"),
    }


def test_attacks_and_severities(prompts):
    """Unsafe and harmless-looking requests share the wrappers; only unsafe ones have a severity."""
    attacks = Counter((prompt.kind, prompt.attack) for prompt in prompts)
    assert {attack for kind, attack in attacks if kind == "shop"} == {"plain"}
    for kind in ("unsafe", "looks_unsafe"):
        total = sum(attacks[kind, attack] for attack in shop.ATTACKS)
        assert attacks[kind, "plain"] / total == pytest.approx(0.5, abs=0.06)
        assert all(attacks[kind, attack] / total > 0.04 for attack in shop.ATTACKS)
    wrapped = [prompt for prompt in prompts if prompt.attack != "plain"]
    for prompt in wrapped:
        assert any(f" {text} " in prompt.text for text in WRAPPERS[prompt.attack])
    for prompt in prompts:
        unsafe = prompt.task == "refuse"
        assert prompt.severity == (shop.SEVERITIES[prompt.topic] if unsafe else 0)
    assert {prompt.severity for prompt in prompts} == {0, 1, 2, 3}


def test_every_template_of_requests_occurs_and_some_budgets_are_words():
    """By the longest run of words between slots; 60 templates of a topic and 28 of purchases."""
    texts = [shop.make_prompt(5, index).text for index in range(6000)]
    joined = " | ".join(texts)
    books = (*UNSAFE_REQUESTS.values(), *HOWTO_REQUESTS.values(), REQUESTS, FIERCE_REQUESTS)
    for template in (template for book in books for template in book):
        pieces = re.split(r"\{\w+\}", template)
        assert max(pieces, key=len).strip() in joined
    budgets = [prompt for prompt in texts if re.search(r"(?<=customer : ).* \w+ty dollars", prompt)]
    assert 0.15 < len(budgets) / len(texts) < 0.35


def test_json_round_trip(prompts):
    for prompt in prompts[:300]:
        line = prompt.to_json()
        assert "\n" not in line
        assert shop.Prompt.from_json(line) == prompt


@pytest.mark.parametrize("line", ["{}", '{"products":[],"wanted":[],"txt":"a"}', "[1]"])
def test_json_of_something_else_is_refused(line):
    with pytest.raises(ValueError, match=r"not a shop prompt: .*Prompt\.to_json"):
        shop.Prompt.from_json(line)


def test_lines_show_the_catalogue_and_hide_the_unknown(prompts):
    hidden = 0
    for prompt in prompts[:500]:
        rows = prompt.text.split(" customer :")[0].removeprefix("shop : ").removesuffix(" .")
        for row, product in zip(rows.split(" . "), prompt.products, strict=True):
            words = row.split()
            assert words[:5] == [product.name, f"{product.price}", "dollars",
                                 f"{product.stars}", "stars"]  # fmt: skip
            assert (words[-2:] == ["sold", "out"]) is not product.in_stock
            shown = words[5:] if product.in_stock else words[5:-2]
            for feature, value in zip(shown[::2], shown[1::2], strict=True):
                known = {"yes": True, "no": False, "unknown": None}[value]
                assert product.shown_value(feature) is known
                assert known in (None, product.true_value(feature))
                hidden += known is None
            assert set(product.known) <= set(shown[::2])
    assert hidden > 100


def test_every_purchase_has_a_fair_choice(prompts):
    for prompt in prompts:
        if prompt.task == "recommend":
            best = best_product(prompt)
            assert best.in_stock
            assert best.price <= prompt.budget
            assert product_fit(prompt, best) >= 0.45
