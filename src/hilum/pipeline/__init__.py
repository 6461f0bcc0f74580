"""The steps of a run, in their order: ingest, cache, audit, split, segment, crop, train, predict,
evaluate; `hilum.reporting.report` is the last.

A step is a module with

    made_from(run, recipe)        the digests of all that its result depends on; None: it cannot be
                                  known without doing it
    make(run, recipe, progress)   do it; returns a `hilum.pipeline.step.StepResult`

and the functions these call, which can be used alone. A step may use earlier steps, never later
ones. The cache comes before the audit, so that each file is decoded once: the audit reads the facts
that caching noted.
"""
