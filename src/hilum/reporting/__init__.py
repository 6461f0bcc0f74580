"""The report, the data card and the model card of a run."""
