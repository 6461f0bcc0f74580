"""Metrics: pure functions of the truth and of a prediction, nan where undefined.

A module offers `METRICS`, name to function; `discrimination` also offers `METRICS_AT`, whose
functions take a threshold besides. Intervals and subgroups are applied above them.
"""
