"""Copies of an image: equal files or pixels, processed copies, copies of known images."""
