"""Groups of patients who must be treated as one person, computed as connected components.

Ingest joins patients by notes such as "same patient as …", a corrections file joins those it
names, and the split joins patients with near-duplicate images. All three name a group after its
smallest member, so that the name does not depend on the order of names or pairs.
"""

from __future__ import annotations

from collections.abc import Iterable


def connected_components(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the smallest member of the component of each name, in the order of `names`.

    Each of `pairs` is an edge between two names. Names without an edge are components of their
    own. Raises `KeyError` for an edge to a name that is not among `names`.
    """
    parent = {name: name for name in names}

    def root(name: str) -> str:
        """Return the smallest known member of the component of a name."""
        while parent[name] != name:
            # Path halving: keeps the trees flat without a second pass.
            parent[name] = name = parent[parent[name]]
        return name

    for one, other in pairs:
        # The smaller root stays one, so a root is always the smallest member of its component.
        first, second = sorted((root(one), root(other)))
        parent[second] = first
    return {name: root(name) for name in parent}
