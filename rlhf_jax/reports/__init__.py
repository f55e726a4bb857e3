"""Claims, summaries, tables, plots and self-contained HTML. Import what you need from its file."""
