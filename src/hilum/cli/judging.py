"""Runs that are judged: looked at again, and beside one another."""
