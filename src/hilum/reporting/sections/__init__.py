"""The sections of the report, one module each. A section is a function of a run's tables that returns what the template shows:
texts, tables of texts, charts and pictures. Nothing is computed here that another step could have stored, but counts.
"""
