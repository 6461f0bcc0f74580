"""Writers: the table of images and labels in formats of other programs; `hilum.plugins` finds them.

To add a format, add one module; `hilum export` lists it, and `tests/test_every_export.py` tests
it. A module defines

    CARD: Card
        title and caveats: what it is, and what the format cannot hold
    write(manifest: Manifest, folder: Path, *, split: pl.DataFrame | None) -> dict[str, object]
        write everything into `folder`, and return a summary that is JSON
        (`hilum.dataset.writers._tables.summary`)

and, where it writes no image files, COPIES_IMAGES = False.

`split` has image_id and part, as `hilum.pipeline.split` makes it, or is None. Images that are not
in it are left out and counted. `folder` must be empty or missing, and is complete or missing
afterwards: `hilum.dataset.writers._output_folder.whole` gives a hidden folder beside it, which is
renamed at the end. Images are copied, never linked, so that changing a copy does not change the
data.
"""
