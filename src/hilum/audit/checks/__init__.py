"""Checks of an audit, one module a family; `hilum.plugins` finds them by file name.

A module holds:

    CARD                       what the family is about; its caveats say how sure the findings are
    RULES                      a tuple of `hilum.audit.issues.Rule`; their names are unique on the shelf
    check(manifest, facts)     findings; `facts` is the cache's index, one row an image, see `hilum.dataset.pixel_cache.FACTS`, and with it what was
                               seen in the cached pictures, see `hilum.inference.orientation.FEATURES`; a table without these is of pictures not looked at

A check works on tables alone: files were decoded when the cache was filled. One that must look at the cached pictures is
`check(manifest, facts, cache=None)`; it gets the opened `hilum.dataset.pixel_cache.Cache`, and says nothing where there is None. One that must know which
images may enter the split takes `include`, the recipe's `[split] include`, see `hilum.annotations.eligibility`. What a check finds does not depend on the order of rows.

A module may also hold `afterwards(manifest, found)`, which is given the findings of all checks and yields more, as that two pictures which
another check found to be one stand in two parts of a split.
"""
