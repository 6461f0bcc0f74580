"""The reading plan: what the files, tables and folders of a folder of radiographs mean."""
