"""rlhf label: from flags to a page, and what it says when it stops."""

import json
import subprocess
import sys
from socketserver import BaseServer
from urllib.request import Request, urlopen

import pytest

from rlhf_jax.cli import main
from rlhf_jax.labelling import open_labels, read_items
from rlhf_jax.labelling import server as label_server


@pytest.fixture
def words(tmp_path):
    rows = [{"prompt": f"{i}?", "answers": ["a", "b"]} for i in range(3)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = {"--data": "data.jsonl", "--out": "labels/out.jsonl"}
    return ["label", *(w for k, v in given.items() for w in (k, str(tmp_path / v))), "--port", "0"]


@pytest.fixture
def work(monkeypatch):
    """What is done while the page is served; then Ctrl-C."""
    requests = []

    def serve(server):
        for target, message in requests:
            body = json.dumps(message).encode()
            headers = {"host": "localhost", "content-type": "application/json"}
            found = server.respond(label_server.Request("POST", target, headers, body))
            assert found.status == 200, found
        raise KeyboardInterrupt

    monkeypatch.setattr(BaseServer, "serve_forever", serve)
    return requests


def test_the_command_says_where_the_page_is_what_was_judged_and_how_people_agree(
    words, work, tmp_path, capsys
):
    out = tmp_path / "labels" / "out.jsonl"
    assert main([*words, "--annotator", "ann"]) == 0
    first = capsys.readouterr().out
    assert "data.jsonl: 3 rows; 3 items of pairs\n" in first
    assert "open http://127.0.0.1:" in first
    assert "token" not in first
    with open_labels(out, "pairs") as labels:
        assert labels.rows == []
    items = list(read_items(tmp_path / "data.jsonl", "pairs").by_key)
    work += [("/judge", {"key": key, "choice": "tie"}) for key in items]
    work += [("/judge", {"key": items[0], "choice": "tie", "annotator": "bob"})]
    assert main([*words, "--annotator", "ann"]) == 0
    last = capsys.readouterr().out
    assert last.count(f"{out}: 0 judgements") == 1
    assert f"{out}: 4 judgements, 3 by ann, 1 by bob\nagreement of ann, bob: 1 judged" in last
    work.clear()
    out.write_bytes(out.read_bytes()[:-9])
    assert main(words) == 0
    assert f"{out}: half a row at its end was removed" in capsys.readouterr().out


def test_another_address_gets_a_token(words, work, capsys, monkeypatch):
    assert main([*words, "--host", "0.0.0.0"]) == 0
    assert "/?token=" in capsys.readouterr().out
    assert main([*words, "--host", "0.0.0.0", "--token", "abc"]) == 0
    assert "/?token=abc\n" in capsys.readouterr().out
    monkeypatch.setenv("RLHF_LABEL_TOKEN", "xyz")
    assert main(words) == 0
    assert "/?token=xyz\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--kind", "stars"], "--kind"),
        (["--criteria", "a", "a"], "criteria must be different names"),
        (["--port", "70000"], "--port must be"),
        (["--data", "nothing.jsonl"], "nothing.jsonl: no such file"),
    ],
)
def test_bad_options_are_one_line(words, more, message, capsys):
    assert main([*words, *more]) == 2
    found = capsys.readouterr().err
    assert message in found
    assert found.count("\n") == 1


def test_the_data_is_not_overwritten(words, tmp_path, capsys):
    data = tmp_path / "data.jsonl"
    before = data.read_bytes()
    assert main([*words, "--out", str(data)]) == 2
    assert "is the file of --data" in capsys.readouterr().err
    (tmp_path / "other.jsonl").write_bytes(before)
    assert main([*words, "--out", str(tmp_path / "other.jsonl")]) == 2
    assert "is no file of labels" in capsys.readouterr().err
    assert data.read_bytes() == (tmp_path / "other.jsonl").read_bytes() == before


@pytest.mark.slow
def test_what_was_saved_is_there_after_a_kill(words, tmp_path):
    """A real process, killed between two judgements; the same command goes on."""
    program = "import sys; from rlhf_jax.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *words, "--annotator", "ann"]
    for judged in range(2):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                link = next(line.split()[1] for line in process.stdout if line.startswith("open"))
                found = _post(link + "next", {})
                assert found["done"] == judged
                _post(link + "judge", {"key": found["item"]["key"], "choice": "left"})
            finally:
                process.kill()
    rows = (tmp_path / "labels" / "out.jsonl").read_text().splitlines()
    assert [json.loads(row)["choice"] for row in rows] == ["left", "left"]


def _post(address, message):
    request = Request(
        address, json.dumps(message).encode(), headers={"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=20) as response:
        return json.load(response)
