"""Hilum: folders of chest radiographs in; checked data, splits, lung masks, findings, anomaly maps and honest figures out."""

__version__ = "0.1.0"
