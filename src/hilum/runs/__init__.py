"""Whole runs: made, reproduced, compared, applied to new images, handed on."""
