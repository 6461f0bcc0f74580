"""Work on many images as shards with a journal: in this process, in several, or on a Dask cluster.

`hilum.scale.shards.run` applies a function to each of many items. The items that are left to do are
cut into shards; each shard is carried by an executor, and what it gives is committed to a journal
(`hilum.scale.journal`), which alone says what is finished. Killed at any moment, the same call
repeats only the shards that were running, and its results are the same to the byte.

    shards      the loop: cut, hand out, commit, yield in the order of the items
    journal     one SQLite file, opened by the calling process alone
    unkept      in place of a journal, where a job begins anew each time
    worker      what a process does with a shard; the process itself
    executor    which executor `shards.run` uses, by `executing`
    in_process, processes, dask_cluster    the executors
    in_groups   items of which each is so quick that many go together
"""
