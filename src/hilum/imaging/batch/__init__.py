"""Work on many images one after another, with a table that holds what is done however it ends."""
