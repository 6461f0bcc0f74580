"""Measure Hilum: accuracy, speed, robustness. Run from the repository: `python -m
benchmarks.KIND.NAME`.
"""
