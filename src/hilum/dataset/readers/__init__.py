"""Readers of data sets, one module each; `hilum.plugins` finds them by file name.

To add a data set, add one module. Beside it two files are optional, under its name:
`NAME.catalog.toml`, facts for `hilum datasets` and `hilum download` (keys:
`hilum.dataset.catalog.CatalogEntry`, explained in `resources/catalog.toml`), and
`NAME.published.toml`, published figures that the data card compares with the files
(`hilum.reporting.card.published`). `tests/test_every_dataset.py` tests every reader. A module
defines

    CARD: Card
        title, licence, source, citation, counts and caveats
    TERMS: dict[str, str] | None
        the own words -> concept ids of `resources/vocabulary.csv`, matched exactly; a word
        that is missing is refused with its count
    detect(root: Path) -> bool
        whether a folder is a copy of the data set; cheap, raises nothing, and true for at most one
        reader besides `folder`
    rows(root: Path) -> Iterator[Row | ImageColumns | Remark]
        every fact of the release, unfiltered: what is left out has a remark "dropped". Raises
        `BadData` with all faults at once; yields nothing from an empty folder. Many images may be
        yielded at once, as `hilum.dataset.image_columns.ImageColumns`
    example(root: Path, *, images: int = ..., seed: int = 0) -> None
        write a made-up copy with `images` images; one seed, the same bytes

and where they apply

    NAMES_ARE_PUBLISHED: bool
        True: the release is public, so its file names and readings identify nobody anew
        (`hilum.privacy.release`); without it they are treated as a hospital's own
    LACKS: frozenset[str]
        what the release does not have, and so its example neither: "patients" (no key that joins
        several images of a patient), "masks" (of the lungs)
    PATIENTS: dict[str, str]
        interpretations of who is a patient, explained; `rows` then takes `patients`, one of them
    terms(root: Path) -> dict[str, str]
        in place of TERMS, where the folder itself says what its words mean
"""
