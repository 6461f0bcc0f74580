"""The Python interface: data sets, images and runs as objects that show themselves in a notebook.

`import hilum` gives these names, each loaded when it is first used (`hilum.__init__`).
"""
