"""Rewrite the models that come with Hilum so that they take less time and answer the same.

    python -m tools.build_models.quicken

For models that were exported before `hilum.training.quicker_graph` was, or before it had one more
rewriting.
Each is rewritten in place where it changes; metadata and weights stay. First its outputs are
compared on made-up films, one at a time and several at once: where a bit differs nothing is
written.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx

from hilum.imaging import synthetic
from hilum.imaging.geometry import resize
from hilum.inference import pretrained
from hilum.inference.onnx_model import INPUT
from hilum.safety.onnx_session import Session
from hilum.training import onnx_export
from hilum.training.quicker_graph import quicker

FILMS, SIDE, SEED = 8, 512, 5


def main() -> None:
    rng = np.random.default_rng(SEED)
    films = [
        synthetic.draw(synthetic.anatomy(rng), rng, height=SIDE, width=SIDE).pixels
        for _ in range(FILMS)
    ]
    for path in sorted(pretrained.folder().glob("*.onnx")):
        before = onnx.load(path)
        after = quicker(before)
        if after == before:
            print(f"{path.name}: as quick as it can be")
            continue
        if not same(before, after, films):
            sys.exit(f"{path.name}: its answers would differ, so it was not written")
        metadata = {entry.key: entry.value for entry in before.metadata_props}
        size = path.stat().st_size
        onnx_export.write(after, path, metadata)
        print(
            f"{path.name}: {len(before.graph.node)} nodes became {len(after.graph.node)}, "
            f"{size:,} bytes {path.stat().st_size:,}"
        )


def same(before: onnx.ModelProto, after: onnx.ModelProto, films: list[np.ndarray]) -> bool:
    """Say whether all outputs are equal to the bit."""
    side = before.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    images = np.stack([resize(film, (side, side)) for film in films])
    names = [output.name for output in before.graph.output]
    answers = [
        [
            session.run(names, {INPUT: images[rows]})
            for rows in (slice(0, 1), slice(1, 2), slice(2, None))
        ]
        for session in (
            Session(model.SerializeToString(), "a model", side, trusted=True)
            for model in (before, after)
        )
    ]
    return all(
        np.array_equal(one, other)
        for ours, theirs in zip(*answers, strict=True)
        for one, other in zip(ours, theirs, strict=True)
    )


if __name__ == "__main__":
    main()
