"""The reading plan: what a folder of radiographs means, worked out from evidence before anything is read into a table."""
