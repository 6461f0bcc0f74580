"""What a data card is made of: facts by name, what was published beside them, tables for a reader, a Croissant file for a machine.

Sizes are (width, height) here and nowhere else in the package, because the cards that these are compared with state them so.
"""
