"""Corrections that people make to a run: an append-only journal, its state, its exchange."""
