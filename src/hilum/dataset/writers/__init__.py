"""Exports: the table of images and labels in forms that other programs read.

An export is a module with

    CARD                                    what it is, and what the form cannot hold
    write(manifest, folder, *, split)       write it all; returns a summary for a person

`split` is a table of image_id and part as `hilum.pipeline.split` makes it, or None. Images that are not in it are left out and counted.
`folder` must be empty or not there. It is whole or not there: all is written into a hidden folder beside it, which is renamed at the
end. Pictures are copied, never linked: what is done to a copy does nothing to the data.
"""
