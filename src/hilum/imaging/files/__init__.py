"""Readers of image files: bytes in, `Radiograph` out. The content decides which reader is used, not the name's ending."""
