"""Data sets, one module each; `hilum.plugins` finds them by file name.

A module holds:

    CARD                     what it is, licence, source, how to cite, caveats
    TERMS                    its own words -> concept ids, exact; None: the words are the user's own
    NAMES_ARE_PUBLISHED      True where everybody can look up the release's file names and readings, so that they name nobody
                             anew (`hilum.privacy.release`); modules without it are taken to hold a hospital's own
    terms(root)              in place of TERMS, where the folder itself says what its words mean; most modules have none
    detect(root)             is this folder it? cheap, and true for at most one module but `folder`
    rows(root)               every fact of the release as `Row` and `Remark`; filters nothing silently
    example(root, ...)       a made-up copy of the layout
"""
