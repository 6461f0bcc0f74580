"""De-identify DICOM files by the profiles of PS3.15 annex E, and search what came out of it.

`folder` does a whole folder: `cleaning` applies the actions of `profile` to a data set, `pixels`
judges burned-in text, `search` finds the `identifiers` of the input in the bytes that were written.
"""
