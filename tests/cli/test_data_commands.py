"""rlhf data head, stats and audit on small files."""

import json

from test_commands import run

from rlhf_jax.hf import load_model

PAIR = {"prompt": "Two plus two?", "chosen": "It is four.", "rejected": "It is five."}
MAIL = "ann@example.org"


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def bad_file(folder):
    """A duplicate, a contradiction, a tie, an address, and a row without an answer."""
    rows = [
        PAIR,
        {**PAIR, "source": "x"},
        {**PAIR, "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]},
        {**PAIR, "rejected": PAIR["chosen"]},
        {**PAIR, "chosen": f"Write to {MAIL} <b>now</b>"},
        {"prompt": "Three?", "chosen": "x"},
    ]
    return write(folder / "pairs.jsonl", *rows)


def findings(path):
    return {each["name"]: each for each in json.loads(path.read_text())["findings"]}


def test_an_audit_prints_and_writes_what_it_found(tmp_path, capsys):
    path, test = bad_file(tmp_path), write(tmp_path / "test.jsonl", PAIR)
    out = {"--json": tmp_path / "a.json", "--html": tmp_path / "a.html"}
    words = [word for pair in out.items() for word in pair]
    assert run("data", "audit", path, test, *words) == 0
    printed = capsys.readouterr().out
    assert "pairs, 5 pairs of 6 rows; unused columns: source" in printed
    found = findings(tmp_path / "a.json")
    numbers = {name: (x["count"], x["rows"]) for name, x in found.items() if x.get("count")}
    assert numbers == {
        "unreadable rows": (1, ["6"]),
        "exact duplicates": (1, ["2"]),
        # Rows 1, 2 and 3: the third is the other way round.
        "contradictions": (3, ["1", "2", "3"]),
        "ties": (1, ["4"]),
        # Row 5: 5 words against 3. The others have as many words on both sides.
        "longer wins": (1, []),
        "personal data": (1, ["5"]),
        "leaked prompts, test.jsonl": (1, ["1"]),
    }
    assert found["longer wins"]["share"] == (1 + 3 / 2) / 4
    assert found["wrong labels"]["reason"] == "fewer than 50 different prompts"
    assert found["no supervised token"]["reason"] == "needs --model"
    page = (tmp_path / "a.html").read_text()
    assert "exact duplicates: over" in page
    assert "row 2 is row 1 again" in page
    for text in (printed, page, (tmp_path / "a.json").read_text()):
        assert MAIL not in text
        assert "<b>" not in text


def test_strict_fails_with_the_findings_over_their_limits(tmp_path, capsys):
    path = write(tmp_path / "pairs.jsonl", PAIR, PAIR, {**PAIR, "prompt": "Other?"})
    assert run("data", "audit", path) == 0
    capsys.readouterr()
    assert run("data", "audit", path, "--strict") == 1
    message = capsys.readouterr().err
    assert message.endswith("pairs.jsonl: over the limit: exact duplicates (33.3%)\n")
    assert run("data", "audit", path, "--strict", "--allow-exact-duplicates", "0.4") == 0


def test_an_audit_reads_lengths_in_tokens_of_a_model(tmp_path, model, capsys):
    rows = [PAIR, {**PAIR, "chosen": "four"}, {**PAIR, "chosen": "a <eos> b"}]
    path = write(tmp_path / "pairs.jsonl", *rows)
    words = ("--model", model, "--max-tokens", "11", "--json", tmp_path / "a.json")
    assert run("data", "audit", path, *words) == 0
    found = findings(tmp_path / "a.json")
    # A token is a byte: 11 and the end. Of row 2 the rejected answer.
    assert found["overlong answers"]["rows"] == ["1", "2", "3"]
    assert found["overlong answers"]["details"]["longest, in tokens"] == 12
    assert found["no supervised token"]["count"] == 0
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path = write(tmp_path / "chat.jsonl", chat)
    assert run("data", "audit", path, *words) == 0
    assert findings(tmp_path / "a.json")["no supervised token"]["rows"] == ["1"]


def test_an_audit_reads_coverage_in_words_and_in_states(tmp_path, mixing, capsys):
    """Of 100 pairs that say yes or no, and six of other words, two of which share one at most."""
    rows = [{"prompt": f"{i}?", "chosen": "yes", "rejected": "no"} for i in range(100)]
    metals = ["zinc", "tin", "lead", "iron", "gold", "silver"]
    for first, second in zip(metals, metals[1:] + metals[:1], strict=True):
        rows.append({"prompt": "And?", "chosen": first, "rejected": second})
    path = write(tmp_path / "pairs.jsonl", *rows)
    out = ("--json", tmp_path / "a.json", "--html", tmp_path / "a.html")
    assert run("data", "audit", path, *out) == 0
    assert "A guarantee for an offline method on these pairs is" in capsys.readouterr().out
    assert "vacuous guarantee" in (tmp_path / "a.html").read_text()
    words = findings(tmp_path / "a.json")
    assert {*words["thin coverage"]["rows"]} == {str(i) for i in range(101, 107)}
    assert words["vacuous guarantee"]["total"] == 106
    assert words["vacuous guarantee"]["allowed"] == 1.0
    assert run("data", "audit", path, "--model", mixing, "--states", *out) == 0
    states = findings(tmp_path / "a.json")
    assert states["thin coverage"]["details"]["features"] == load_model(mixing).config.d_model
    assert states["thin coverage"]["total"] == 106
    assert run("data", "audit", path, "--states") == 2
    assert "--states are those of --model" in capsys.readouterr().err


def test_the_first_rows_are_shown_as_they_are_read(tmp_path, capsys):
    path = bad_file(tmp_path)
    assert run("data", "head", path, "--first", "5", "--chars", "8") == 0
    lines = [line.partition("; found")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "pairs: pairs",
        *("", "row 5", "  prompt: Two plus… (13 characters)"),
        "  chosen: Write to… (35 characters)",
        "  rejected: It is fi… (11 characters)",
        *("", "row 6"),
        "  cannot be read: field rejected is missing; every row needs the fields of the first one "
        "(the row has the columns of format prompts: split the file)",
        *("", "unused columns: source"),
    ]
    assert run("data", "head", path, "--first", "9") == 2
    assert "6 rows, none from number 9 on" in capsys.readouterr().err


def test_stats_count_lengths_and_labels(tmp_path, capsys):
    row = {"prompt": "a b c", "completion": "d", "label": True}
    path = write(tmp_path / "a.jsonl", row, row, {**row, "prompt": "e", "label": False})
    assert run("data", "stats", path) == 0
    cells = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("│")
    ]
    # Words of the prompts: 1, 3, 3.
    assert cells[0][:5] == ["prompts", "3", "1", "2", "3"]
    assert cells[2:] == [
        ["distinct prompts", "2"],
        ["answers marked bad", "1"],
        ["answers marked good", "2"],
    ]


def test_bad_usage_of_data_is_one_line(tmp_path, capsys):
    for words, message in (
        (("data",), "rlhf has no command 'data': did you mean data"),
        (("data", "audti", "x"), "did you mean data audit?"),
        (("data", "audit"), "rlhf data audit needs FILE; see rlhf data audit --help"),
        (("data", "stats", tmp_path / "a"), "no such file"),
        (("data", "audit", "x", "--html", tmp_path / "no" / "a.html"), "no/a.html: no folder"),
        (("data", "audit", "x", "--allow-ties", "2"), "--allow-ties must be in [0, 1], got 2"),
    ):
        assert run(*words) == 2
        found = capsys.readouterr().err
        assert message in found
        assert len(found.splitlines()) == 1
