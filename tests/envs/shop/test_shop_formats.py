"""Formats: what is written is read back, and what is not in the form is None."""

import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop import formats


@pytest.fixture(scope="module")
def pairs():
    found = []
    for index in range(300):
        prompt = shop.make_prompt(4, index)
        found.append((prompt, *(shop.sample_answer(4, prompt, i) for i in (0, 1))))
    return found


def test_verdict_is_that_of_gold(pairs):
    sides = set()
    for prompt, a, b in pairs:
        first, second = (shop.score(prompt, text).overall for text in (a, b))
        want = "equal" if first == second else "ab"[second > first]
        text = formats.verdict_text(prompt, a, b)
        assert formats.read_verdict(text) == want
        swapped = formats.read_verdict(formats.verdict_text(prompt, b, a))
        assert swapped == {"a": "b", "b": "a", "equal": "equal"}[want]
        sides.add(want)
        if want != "equal":
            better, worse = (a, b) if want == "a" else (b, a)
            axis = text.split()[-2]
            gain = getattr(shop.score(prompt, better), axis)
            assert gain > getattr(shop.score(prompt, worse), axis)
    assert sides == {"a", "b", "equal"}


def test_reason_by_hand(speaker):
    text = formats.verdict_text(speaker, "what a silly question . i recommend nova .",
                                "happy to help . i recommend nova .")  # fmt: skip
    assert text == "the better answer is b , because it is more polite ."


def test_work_leads_to_the_verdict(speaker):
    a, b = "i recommend nova .", "i recommend luma . it costs 10 dollars ."
    text = formats.reasoned_verdict(speaker, a, b)
    *work, verdict = [part.strip() for part in text.split(" . ")]
    assert [line.split()[0] for line in work] == list(shop.AXES)
    for line in work:
        axis, first, _, second = line.split()
        marks = [round(9 * getattr(shop.score(speaker, each), axis)) for each in (a, b)]
        assert [int(first), int(second)] == marks
    assert verdict == formats.verdict_text(speaker, a, b)
    assert formats.read_verdict(text) == "a"
    assert formats.read_verdict(f"{text} no , the better answer is b .") == "b"


def test_degrees(pairs):
    seen = set()
    for prompt, a, b in pairs:
        degree = formats.read_degree(formats.degree_text(prompt, a, b))
        assert degree is not None
        assert formats.read_degree(formats.degree_text(prompt, b, a)) == -degree
        gap = shop.score(prompt, a).overall - shop.score(prompt, b).overall
        assert degree == (0 if gap == 0 else (1 if gap > 0 else -1) * (
            3 if abs(gap) > 0.3 else 2 if abs(gap) > 0.1 else 1
        ))  # fmt: skip
        seen.add(degree)
    assert seen == {-3, -2, -1, 0, 1, 2, 3}
    for text in ("", "answer a is better by 4 .", "answer c is better by 1 ."):
        assert formats.read_degree(text) is None


@pytest.mark.parametrize("text", ["", "a", "the better answer is c .", "answer a is better ."])
def test_other_texts_are_no_verdict(text):
    assert formats.read_verdict(text) is None


@pytest.mark.parametrize(("tenths", "step"), [(False, 9), (True, 10)])
def test_ratings_round_trip(pairs, tenths, step):
    for prompt, a, _ in pairs[:100]:
        read = formats.read_ratings(formats.answer_ratings(prompt, a, tenths=tenths))
        vector = shop.score(prompt, a).vector()
        assert read is not None
        assert list(read) == list(shop.AXES)
        assert max(abs(x - y) for x, y in zip(read.values(), vector, strict=True)) < 0.51 / step


def test_ratings_by_hand():
    assert formats.ratings_text({"helpful": 0.5, "honest": 1.0}) == "helpful 4 honest 9 ."
    assert formats.ratings_text({"honest": 0.35}, tenths=True) == "honest 0.3 ."
    assert formats.read_ratings("helpful 9 honest 3 .") == {"helpful": 1.0, "honest": 3 / 9}
    for text in ("", "helpful 9", "helpful 10 .", "nice 3 .", "helpful 1 helpful 2 .",
                 "helpful 1 honest 0.5 ."):  # fmt: skip
        assert formats.read_ratings(text) is None
    with pytest.raises(ValueError, match=r"the rating of honest must be in \[0, 1\], got 2"):
        formats.ratings_text({"honest": 2.0})


def test_directions_by_hand():
    text = formats.direction_text({"helpful": 0.8, "concise": -0.6, "polite": -0.01})
    assert text == "the user wants helpful 0.8 concise minus 0.6 polite 0.0 ."
    for weights in ({"nice": 0.1}, {"helpful": 1.5}):
        with pytest.raises(ValueError, match="want an axis of"):
            formats.direction_text(weights)


def test_tool_calls(speaker):
    call = formats.tool_call("price", "luma")
    assert call == "call price luma ."
    assert formats.read_tool_call(call) == ("price", "luma")
    for text in ("call price luma", "call size luma .", "call price shop .", "price luma ."):
        assert formats.read_tool_call(text) is None
    results = {
        ("price", "luma"): "60", ("stars", "nova"): "4", ("stock", "kiro"): "no",
        ("stock", "nova"): "yes", ("waterproof", "nova"): "unknown", ("wireless", "luma"): "no",
        ("price", "zulu"): "nothing", ("size", "nova"): "nothing",
    }  # fmt: skip
    for (attribute, name), want in results.items():
        assert formats.tool_result(speaker, attribute, name) == f"result {want} ."


@pytest.mark.long
def test_words_and_length(pairs):
    vocabulary = set(shop.words())
    texts = formats.examples(3, 100)
    for prompt, a, b in pairs:
        texts.append(f"{formats.pair_context(prompt, a, b)} {formats.verdict_text(prompt, a, b)}")
        texts.append(f"{texts[-1]} {formats.reasoned_verdict(prompt, a, b)}")
        texts.append(f"{formats.pair_context(prompt, a, b)} {formats.degree_text(prompt, a, b)}")
        texts.append(f"{formats.correction_context(prompt, a)} {shop.ideal_answer(prompt)}")
        texts.append(f"{formats.rating_context(prompt, a)} {formats.answer_ratings(prompt, a)}")
    for text in texts:
        assert set(text.split()) <= vocabulary
        assert " ".join(text.split()) == text
        assert len(text.split()) <= 384
