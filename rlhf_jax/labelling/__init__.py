"""Human feedback by a page in the browser: items to judge, a file of judgements, agreement.

    items = read_items("pairs.jsonl", "pairs")          # what is shown
    with open_labels("labels.jsonl", "pairs") as labels:
        session = LabelSession(LabelTask("pairs"), items.by_key, labels)
        open_server(session, Access("127.0.0.1", 8765)).serve_forever()
    read_rows("labels.jsonl")                           # what was chosen, as pairs
    agreement(labels.rows)

Each row of the file is a judgement that `data.formats` reads. A session knows no HTTP, the server
no labels, and the page (page.html, page.css, page.js) sees texts without their origin.
"""

from rlhf_jax.labelling.agreement import agreement as agreement
from rlhf_jax.labelling.items import read_items as read_items
from rlhf_jax.labelling.label_file import open_labels as open_labels
from rlhf_jax.labelling.rows import LabelTask as LabelTask
from rlhf_jax.labelling.server import Access as Access
from rlhf_jax.labelling.server import is_loopback as is_loopback
from rlhf_jax.labelling.server import open_server as open_server
from rlhf_jax.labelling.session import LabelSession as LabelSession
