"""What is wrong with a file of feedback: `AuditFile -> Finding`, one function for each check.

    file = read_audit("pairs.jsonl")
    duplicates.exact_duplicates(file).count

A finding counts records, names the rows they come from and never quotes a text. A check that a kind
of record cannot have says so in `inapplicable`. `rlhf data audit` runs them all.
"""

from rlhf_jax.data.audit.findings import Finding as Finding
from rlhf_jax.data.audit.rows import AuditEntry as AuditEntry
from rlhf_jax.data.audit.rows import AuditFile as AuditFile
from rlhf_jax.data.audit.rows import read_audit as read_audit
