"""Metrics: pure functions of the truth and of what was found, nan where undefined.

A module offers `METRICS`, name to function; `ranking` also offers `METRICS_AT`, whose functions take a threshold
besides. Intervals and groups are applied above them.
"""
