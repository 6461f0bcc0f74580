"""A run or a folder in the browser, to read, to judge and to correct (extra `[serve]`)."""
