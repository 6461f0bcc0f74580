"""Parts of a data card: facts by name, comparison with published cards, Markdown, Croissant.

Sizes are (width, height) here and nowhere else in the package, because cards state them so.
"""
