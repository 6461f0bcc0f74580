"""Files, pixels and geometry of radiographs."""
