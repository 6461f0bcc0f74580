"""Data that lie elsewhere, read as a folder: listed first, fetched when a file is first opened.

`hilum.safety.addresses` says what an address is and where its mirror lies. Here the mirror is laid
(`mirror`), its files are fetched through a transport (`transport`, `fetching`), its archives are
unpacked (`archives`) and its disk is kept bounded (`eviction`).
"""
