"""Readers of image files: bytes in, `Radiograph` out.

The first bytes of a file decide which reader is used, not the ending of its name.
"""
