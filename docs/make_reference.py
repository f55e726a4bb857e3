"""The reference of `mkdocs build`: one page per room, with every docstring turned into Markdown.

Loaded twice by mkdocs.yml: as a hook, which adds pages to the site, and as an extension of
mkdocstrings, which reads the docstrings.
"""

import re
from collections.abc import Iterator
from pathlib import Path

try:
    from griffe import Extension
except ImportError:  # the tests of this file do without the extra `docs`
    Extension = object

ROOT = Path(__file__).parents[1]
PACKAGE = "rlhf_jax"
# Pages and notebooks outside docs/ that belong to the site, at their places in the repository.
OUTSIDE = (
    "CONTRIBUTING.md",
    "notebooks/*.ipynb",
    "experiments/README.md",
    "experiments/[!_]*/README.md",
)
SECTION = re.compile(
    r"(Args|Returns|Raises|Attributes|Needs|Reduces to|Reference|Departs):(?: +(.*))?$"
)
ENTRY = re.compile(r"  (\*{0,2}[A-Za-z_]\w*(?:, \*{0,2}[A-Za-z_]\w*)*): (.*)")


def rooms() -> dict[str, list[str]]:
    """Name of each room -> its modules, the door first."""
    paths = sorted((ROOT / PACKAGE).rglob("*.py"), key=lambda path: path.as_posix())
    found: dict[str, list[str]] = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not any(part.startswith("_") for part in parts) and len(parts) > 1:
            found.setdefault(parts[1], []).append(".".join(parts))
    return {room: sorted(modules) for room, modules in sorted(found.items())}


def reference_page(room: str, modules: list[str]) -> str:
    """The page of one room: a heading, and one mkdocstrings block per module."""
    return "\n\n".join([f"# {room}", *(f"::: {module}" for module in modules)]) + "\n"


def escape(text: str) -> str:
    """Text in which Markdown finds no emphasis, link or tag; `code` stays as it is."""
    pieces = re.split(r"(`+[^`]*`+)", text)
    pieces[::2] = [re.sub(r"([*_\[\]\\])", r"\\\1", piece) for piece in pieces[::2]]
    pieces[::2] = [piece.replace("<", "&lt;") for piece in pieces[::2]]
    return "".join(pieces)


def code_lines(lines: list[str]) -> Iterator[bool]:
    """For each line whether it is code: a block indented by four, or an example from `>>>` on."""
    code, blank, section = False, True, False
    for line in lines:
        section = section or bool(SECTION.match(line))
        starts = blank and line.startswith(">>>" if section else (">>>", "    "))
        code = bool(line) and (code or starts)
        blank = not line
        yield code


def markdown(doc: str) -> str:
    """A docstring as Markdown: sections in bold, their entries as lists, examples as code."""
    lines, section = [], False
    source = doc.splitlines()
    for line, is_code in zip(source, code_lines(source), strict=True):
        heading, entry = SECTION.match(line), ENTRY.match(line)
        section = section or bool(heading)
        if is_code:
            lines.append(line if line.startswith("    ") else f"    {line}")
        elif heading:
            lines += ["", f"**{heading[1]}:** {escape(heading[2] or '')}".rstrip(), ""]
        elif section and entry:
            lines.append(f"- `{entry[1]}`: {escape(entry[2])}")
        else:
            # What continues an entry stays inside its list; other text starts at the margin.
            inside = section and line.startswith("    ")
            lines.append("    " * inside + escape(line.strip()))
    return "\n".join(lines)


class MarkdownDocstrings(Extension):  # ty: ignore[unsupported-base]
    """Replaces each docstring by its Markdown before mkdocstrings renders it."""

    def on_object(self, *, obj, **_) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def other_pages(nav: object) -> list[str]:
    """The pages of docs/ that the navigation does not name yet, in alphabetical order."""
    return [path.name for path in sorted(ROOT.glob("docs/*.md")) if path.name not in str(nav)]


def on_config(config):
    """Adds the other guides, the experiments and the rooms to the navigation."""
    papers = sorted(path.parent.name for path in ROOT.glob("experiments/[!_]*/README.md"))
    pages = ["experiments/README.md", *(f"experiments/{slug}/README.md" for slug in papers)]
    config.nav += [
        *([{"More guides": more}] if (more := other_pages(config.nav)) else []),
        {"Experiments": pages},
        {"Reference": [{room: f"reference/{room}.md"} for room in rooms()]},
    ]
    return config


def on_files(files, config):
    """Adds the pages from outside docs/ and the reference to the site."""
    from mkdocs.structure.files import File

    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            place = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, place, abs_src_path=str(path)))
    for room, modules in rooms().items():
        text = reference_page(room, modules)
        files.append(File.generated(config, f"reference/{room}.md", content=text))
    return files


def on_page_markdown(text, page, **_):
    """Links of the repository as links of the site, where docs/ is the top folder."""
    if page.file.src_uri.startswith(("experiments/", "CONTRIBUTING")):
        return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", text)
    return text.replace("](../", "](")
