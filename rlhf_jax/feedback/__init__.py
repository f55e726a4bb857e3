"""Teachers: what people say about behaviour, and the law that each answer is drawn from.

    prefs = bt_prefs(values, beta=1.0)                          # [*B, 2] -> P(item 1 wins)
    labels = bt_labels(key, values, beta=1.0)
    loglik = bt_loglik(labels, values, beta=1.0)

A law is three pure functions: probabilities, draws and a likelihood. docs/feedback.md has the table
of what a survey of the field names, and the function for it.

| file | what is in it |
|---|---|
| `teachers`, `comparisons` | comparisons, rankings, ratings; ties, errors, outcomes |
| `choices` | feedback of every kind as one choice among options |
| `signals`, `interventions`, `hierarchical` | signals while acting, takeovers, ranked factors |
| `populations` | people who differ, and labels that lie |
| `values` | what a teacher judges by, before any label |
| `segments` | segments cut from episodes, all of them or drawn |
| `pairs` | labelled trajectories as a `PreferenceBatch` |
| `strengths` | labels repaired by a vote |
| `posteriors`, `queries`, `query_batches` | what is believed, and what to ask next |
"""
