"""A data set as a checked table: what a folder of radiographs means, and how it is read."""
