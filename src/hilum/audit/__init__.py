"""Audit of a data set: checks that report issues, search for duplicates, and the audit page."""
