"""The page of an audit: every finding explained, its numbers, and suspicious rows to look at."""

from collections.abc import Sequence

from rlhf_jax.cli.data_audit import Verdict, findings_table, first_places
from rlhf_jax.data.audit import AuditFile
from rlhf_jax.data.audit.texts import masked
from rlhf_jax.recipes.label_noise import Judgement, LabelNoise
from rlhf_jax.reports import html
from rlhf_jax.reports.claims import Table

SUSPECTS, LISTED, SHOWN = 8, 60, 500  # judgements, rows and characters on the page

# name -> what it means, and what to do.
ABOUT = {
    "unreadable rows": "Rows that no format fits, or that are no JSON. Training on the file stops "
    "at the first of them. Correct or remove them.",
    "exact duplicates": "Records that say the same as an earlier one. They count twice in training "
    "and make held-out numbers look better than they are. Remove them.",
    "near duplicates": "Records with a prompt and answers that share most of their three-word "
    "sequences with those of an earlier record. Keep one of each.",
    "contradictions": "The same comparison decided both ways, or one answer marked good and bad. "
    "People disagree; if many rows do, check how the two sides were written into the file.",
    "chosen scored lower": "The scores in the file say that the rejected answer is better. Often "
    "the two columns were exchanged.",
    "ties": "Judgements without a winner. Training drops them, so this is a loss and not a fault.",
    "empty answers": "Nothing but spaces. Training drops these records.",
    "overlong answers": "Longer than --max-tokens; training cuts or drops them.",
    "no supervised token": "The tokenizer and the chat template of the model leave nothing to "
    "learn, or refuse the record. Training stops there.",
    "longer wins": "How often one would be right by choosing the longer answer. Near 0.5 length "
    "says nothing. Far above it, a reward model can learn to like length, and a policy to be long.",
    "wrong labels": "An estimate. A small model of words and word pairs predicts each judgement "
    "from others, with other prompts. Where it is sure of the opposite, the label may be wrong. "
    "What words do not show counts as wrong too: look at the accuracy of the model first.",
    "intransitive triples": "A was preferred to B, B to C, and C to A. No score can agree with all "
    "three, so a reward model cannot fit them.",
    "thin coverage": "Pairs that differ in words, or with --states in last hidden states, of which "
    "the rest of the file says less than the pair itself. A reward fitted to the file is hardly "
    "known there: label more pairs like them.",
    "vacuous guarantee": "Pairs for which the best that theory promises of an offline method is no "
    "bound at all: the loss that it allows is as large as the range of rewards. Nearly all files "
    "are of this kind; trust held-out numbers, or train with answers of the policy.",
    "template drift": "Prompts written in another way than most: as text or as messages, with or "
    "without a system text or tools. The model sees them as another task.",
    "stray markers": "Markers of a chat template, or role names, inside texts. A model learns to "
    "write them. They are often left by an earlier rendering, or by a dialogue that was not split.",
    "personal data": "Strings that look like e-mail addresses, phone numbers, card numbers with a "
    "right check digit, or IP addresses. They are counted and shown nowhere.",
    "encoding faults": "Characters left by a conversion between encodings, or HTML entities.",
    "other scripts": "An answer mostly in another script than its prompt or than the other answer.",
    "leaked prompts": "Records of another split with a prompt that FILE has: measured on them, a "
    "model looks better than it is. Remove them from one of the two.",
    "near-leaked prompts": "Records of another split with nearly a prompt of FILE. Long "
    "instructions with a short question are alike as well; look before you remove them.",
}
WORDS = (
    "ok: within the share that is allowed. over: above it. unsure: an estimate that does not "
    "decide. Brackets are 95% intervals; they count the records of one prompt as one."
)


def audit_page(file: AuditFile, verdicts: Sequence[Verdict], noise: LabelNoise) -> html.Html:
    """A page that needs nothing else."""
    over = [x.finding.name for x in verdicts if x.word == "over"]
    lead = f"{file.format}: {len(file.entries)} {file.kind} of {file.rows} rows. "
    lead += f"Over the limit: {', '.join(over)}." if over else "Nothing is over its limit."
    blocks = [html.section("Findings", html.table(findings_table(verdicts)), html.note(WORDS))]
    order = ("over", "unsure", "ok", "not checked")
    found = [x for x in verdicts if x.finding.count]
    blocks += [_finding(x, noise) for x in sorted(found, key=lambda x: order.index(x.word))]
    rest = {_check(x): ABOUT[_check(x)] for x in verdicts if not x.finding.count}
    blocks.append(
        html.section("Nothing found", html.table(Table("", ("check", ""), [*rest.items()])))
    )
    return html.page(f"Audit of {file.path.name}", *blocks, lead=lead, footer=str(file.path))


def _finding(x: Verdict, noise: LabelNoise) -> html.Html:
    """One finding: what it means, its numbers, its rows."""
    finding = x.finding
    blocks = [html.paragraph(ABOUT[_check(x)])]
    if x.reason:
        blocks.append(html.paragraph(f"Unsure: {x.reason}."))
    if finding.details:
        rows = list(finding.details.items())
        blocks.append(html.table(Table("", ("", "number"), rows)))
    blocks += [html.note(line) for line in finding.examples]
    if finding.places:
        blocks.append(html.note(f"Rows: {first_places(finding, LISTED)}"))
    if finding is noise.finding:
        blocks += [_suspect(judgement, prob) for judgement, prob in noise.suspects[:SUSPECTS]]
    return html.section(f"{finding.name}: {x.word}", *blocks)


def _check(x: Verdict) -> str:
    """The name of a check, without that of another file."""
    return x.finding.name.partition(",")[0]


def _suspect(judgement: Judgement, prob: float) -> html.Html:
    """A judgement that looks wrong."""
    chosen, rejected = judgement.pair.chosen, judgement.pair.rejected
    sides = [("chosen", chosen), ("rejected", rejected)]
    if not (chosen and rejected):
        sides = [("marked good", chosen)] if chosen else [("marked bad", rejected)]
    remark = f"P(label) = {prob:.3f}"
    cards = [(name, _excerpt(text), remark) for name, text in sides]
    prompt = _excerpt(judgement.prompt, end=True)
    return html.answer_table(f"Row {judgement.place}", prompt, cards)


def _excerpt(text: str, *, end: bool = False) -> str:
    """The beginning of a text, or its end, without personal data."""
    text = masked(text).strip()
    if len(text) <= SHOWN:
        return text
    return f"… {text[-SHOWN:]}" if end else f"{text[:SHOWN]} …"
