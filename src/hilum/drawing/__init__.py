"""Charts and pictures for a page that stands alone: inline SVG and data URIs, made without a plotting library. Knows nothing of runs.

Everything drawn is `Markup`, safe to put into HTML: each text that comes in is escaped. Colours are the CSS variables of `COLOURS`
with a fallback, so that a page can set them for light, dark and paper; text takes the colour of the text around it.
"""

from __future__ import annotations

# Okabe and Ito (2008): told apart by readers of every kind of colour vision.
COLOURS = ("var(--series-1, #0072b2)", "var(--series-2, #d55e00)", "var(--series-3, #888888)")
