"""Build the models and rules that come with Hilum. Run from the repository: `python -m
tools.build_models.NAME`.
"""
