"""Docstrings of losses stay short: what the functions of a file share stands at its top, once."""

import ast
from pathlib import Path

LOSSES = Path(__file__).parents[2] / "rlhf_jax" / "losses"
MOST = 1.2  # docstring lines for each line of code


def counted(source: str) -> tuple[int, int]:
    """Lines of docstrings, empty ones too; lines of code, signatures too, comments left out."""
    docs = set()
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node):
            doc = node.body[0]
            docs |= set(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
    others = (line for i, line in enumerate(source.splitlines(), start=1) if i not in docs)
    return len(docs), sum(bool(line.split("#")[0].strip()) for line in others)


def test_signatures_are_code_and_empty_lines_count_in_docstrings_only():
    source = '"""A."""\n\n\ndef f(\n  x,\n):\n  """B.\n\n  C.\n  """\n\n  # D.\n  return x\n'
    assert counted(source) == (1 + 4, 3 + 1)


def test_losses_have_at_most_six_docstring_lines_for_five_of_code():
    files = [path for path in LOSSES.rglob("*.py") if path.stem != "__init__"]
    docs, code = map(sum, zip(*(counted(path.read_text()) for path in files), strict=True))
    assert docs <= MOST * code, f"{docs} docstring lines for {code} lines of code"
