"""Learning a policy from demonstrations, transitions and interventions.

    state = q_learning.init_q(num_states, num_actions)
    action = q_learning.greedy_q_action(key, state, place)
    state = q_learning.update_q(state, transition)

Tables learn one transition at a time, as above. Networks and every other parametrisation have
`make_update(...) -> update(state, batch)`, like the files of `algos`.

| method | function | paper |
|---|---|---|
| Q-learning | `q_learning.update_q` | Watkins 1989 |
| implicit Q-learning | `iql.make_update` | 2110.06169 |
| deep deterministic policy gradient | `ddpg.make_update` | 1509.02971 |
| replay; acting and learning in turn | `replay.add_rows`, `draw_rows`; `off_policy.play_round` | |
| behaviour cloning with full support | `behaviour_cloning.clone_counts`, `fit` | 2310.17303 |
| takeovers: a teacher interrupts, an expert acts | `takeovers.advance` | 2311.12996 |
| RLIF: labels of one step; on a table | `rlif.label_step`; `rlif.update_rlif` | 2311.12996 |
| HG-DAgger | `dagger.update_dagger` | 1810.02890 |
"""
