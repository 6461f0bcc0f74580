"""What the step `evaluate` is made of: what a figure is, figures of lungs, figures of scores.
None of it sees a model.
"""
