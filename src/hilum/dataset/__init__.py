"""Data sets as checked tables: what lies in a folder, read with its faults named."""
