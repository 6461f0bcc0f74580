"""The steps of a run, in their order: ingest, cache, audit, split, segment, crop, train, predict,
evaluate; `hilum.reporting.report` is the last.

A step is a module with

    made_from(run, recipe)        digests of all that its result depends on; None: look again each time
    make(run, recipe, progress)   do it; returns the files made with their digests, and a summary

and the functions these call, which can be used alone. A step may know earlier steps, never later
ones. The cache comes before the audit, so that each file is decoded once: the audit reads the facts
that caching noted.
"""
