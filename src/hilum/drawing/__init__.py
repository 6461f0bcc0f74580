"""Charts and images for a self-contained page: inline SVG and data URIs, no plotting library.

Every drawing is `Markup`, safe to insert into HTML: each text that comes in is escaped. Colours are
the CSS variables of `COLOURS` with a fallback, so that a page can set them for light, dark and
print; text takes the colour of the text around it. Nothing here depends on runs.
"""

from __future__ import annotations

# Okabe and Ito (2008): distinguishable with every kind of colour vision.
COLOURS = ("var(--series-1, #0072b2)", "var(--series-2, #d55e00)", "var(--series-3, #888888)")
