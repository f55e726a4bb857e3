"""Drills: one right answer each, found again in other words, and apart from the probes."""

from collections import Counter

import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop import drills, general


@pytest.fixture(scope="module")
def asked():
    return [shop.drill(3, index) for index in range(1500)]


def test_drill_is_a_function_of_seed_and_index(asked):
    assert [shop.drill(3, index) for index in (0, 77)] == [asked[0], asked[77]]
    assert shop.drill(4, 0) != asked[0]
    assert len({each.text for each in asked}) == len(asked)
    assert set(Counter(each.kind for each in asked)) == set(drills.DRILL_KINDS)


def test_the_answer_is_right_and_that_of_another_drill_seldom(asked):
    assert all(shop.probe_right(each, each.answer) for each in asked)
    others = asked[1:] + asked[:1]
    wrong = [shop.probe_right(a, b.answer) for a, b in zip(asked, others, strict=True)]
    assert sum(wrong) / len(wrong) < 0.1
    assert not any(shop.probe_right(each, "") for each in asked)
    assert not any(shop.probe_right(each, each.question) for each in asked)


def test_no_answer_is_right_too_often(asked):
    for kind in drills.DRILL_KINDS:
        some = [each for each in asked if each.kind == kind]
        usual = Counter(each.answer for each in some).most_common(1)[0][0]
        assert sum(shop.probe_right(each, usual) for each in some) / len(some) < 0.7


def test_answers_by_hand():
    shelf = (
        "shop : nova 40 dollars 4 stars wireless yes . luma 20 dollars 5 stars wireless unknown . "
        "question : {} answer :"
    )
    price = drills.Drill("price", shelf.format("what does nova cost ?"), "", ("40",))
    assert shop.probe_right(price, "it costs 40 dollars .")
    assert shop.probe_right(price, "40 . it has 4 stars .")
    assert not shop.probe_right(price, "nova costs 40 or 20 dollars .")
    feature = drills.Drill("feature", shelf.format("is luma wireless ?"), "", ("unknown",))
    assert shop.probe_right(feature, "that is unknown .")
    assert not shop.probe_right(feature, "yes or unknown .")
    top = drills.Drill("cheapest", shelf.format("which lamp is cheapest ?"), "luma .", ("luma",))
    assert shop.probe_right(top, "the cheapest is luma .")
    assert not shop.probe_right(top, "luma and nova .")


def test_answers_follow_the_lines(asked):
    checked = Counter()
    for each in asked:
        lines = each.question.removeprefix("shop : ").split(" question : ")[0].split(" . ")
        rows = {line.split()[0]: line.split() for line in lines}
        question = each.question.split(" question : ")[1].split()
        if each.kind == "price":
            assert each.key == (rows[question[2]][1],)
        elif each.kind == "cheapest":
            low = min(int(row[1]) for row in rows.values())
            assert each.key == tuple(name for name, row in rows.items() if int(row[1]) == low)
        elif each.kind == "feature":
            row = rows[question[1]]
            assert each.key == (row[row.index(question[2]) + 1],)
        elif each.kind == "count_sold":
            assert each.key == (str(sum("sold" in row for row in rows.values())),)
        elif each.kind == "line":
            assert each.answer.split()[:-1] == [w for w in rows[question[-4]] if w != "."]
        else:
            continue
        checked[each.kind] += 1
    assert min(checked.values()) > 50
    assert len(checked) == 5


def test_probes_are_held_out(asked):
    seen = {each.question.split(" question : ")[0] for each in asked}
    probes = [shop.probe(3, index) for index in range(500)]
    assert seen.isdisjoint(each.question.split(" question : ")[0] for each in probes)
    assert all(shop.probe_right(each, each.answer) for each in probes)


@pytest.mark.parametrize("index", [-1, drills.PROBE_START])
def test_index_out_of_range_is_refused(index):
    for make in (shop.drill, shop.probe):
        with pytest.raises(ValueError, match=f"drill index {index} is out of range"):
            make(0, index)


@pytest.mark.long
def test_general_text_holds_every_word_often():
    texts = [shop.general_text(1, index) for index in range(8000)]
    assert texts[:9] == [shop.general_text(1, index) for index in range(9)]
    counts = Counter(word for text in texts for word in text.split())
    assert set(counts) == set(shop.words())
    assert min(counts.values()) >= 20
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) >= 10
    assert max(lengths) <= 120


def test_statements_of_general_text_are_true():
    checked = 0
    for text in (shop.general_text(2, index) for index in range(400)):
        if text.startswith("shop : "):
            words = text.split()
            for i, word in enumerate(words[:-2]):
                if words[i + 1 : i + 2] == ["costs"]:
                    assert words[words.index(word) + 1] == words[i + 2]
                    checked += 1
    assert checked > 30


def test_words_and_spacing(asked):
    vocabulary = set(shop.words())
    for text in [each.text for each in asked] + general.examples(5, 300) + drills.examples(5, 9):
        assert set(text.split()) <= vocabulary
        assert " ".join(text.split()) == text
        assert len(text.split()) <= 384
