"""Process many images one after another, with a table of all finished ones however it ends."""
