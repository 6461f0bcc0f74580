"""Routes that try one film: lungs, quality, calls or why there are none, and where they come from.

The film is classified by `hilum.inference.classify_images`, and by `hilum.runs.predict_images` with
the run's own models where it has some: by the functions of `hilum classify` and `hilum apply`, so
with their results. It lies in a private temporary folder while that lasts, under a name of the
desk's own; what is to be downloaded is kept in memory for some minutes.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import imagecodecs
import numpy as np

from hilum.annotations import lung_masks
from hilum.annotations.vocabulary import name_of
from hilum.errors import BadData
from hilum.imaging.files import image_file
from hilum.imaging.geometry import Size, resize
from hilum.imaging.radiograph import to_uint8
from hilum.inference import classify_images, lung_finder, pretrained, segment_images
from hilum.inference.calls import FindingScore, ImageResult
from hilum.runs import predict_images
from hilum.serve.desk import Desk
from hilum.serve.facts import Facts
from hilum.serve.parameters import Choice, Parameter, Text
from hilum.serve.replies import PNG, ZIP, Json, Refusal, Reply, as_json
from hilum.serve.routing import FORM, Body, Call, Route

SHOWN = 1024  # pixels of the longer side of an image of the result
FILES = {"film": PNG, "mask": PNG, "saliency": PNG, "download": ZIP}
DOWNLOAD = "hilum-film.zip"
_LONGEST_NAME = 120  # characters of a file's name that are repeated
_COLOURS = {lung_masks.RIGHT: (255, 166, 0), lung_masks.LEFT: (54, 214, 247)}
_COVER = 110  # of 255: how much of the film a lung's colour covers


def models_facts(desk: Desk, call: Call) -> Facts:
    """Return which models a film is tried with."""
    names = [model.name for model in pretrained.pretrained_models()]
    own = desk.study.run.done("train")
    return {
        "models": [*names, *(["this run"] if own else [])],
        "limit": desk.settings.limits.upload_bytes,
    }


def attempt(desk: Desk, call: Call) -> Reply:
    """Answer everything that the models say of the film that was sent."""
    if call.file is None:
        raise Refusal(422, "no film was sent", "send a form with one file under the name 'file'")
    try:
        return as_json(_results(desk, call.file, _shown_name(call.file_name)))
    except BadData as error:  # of a place that is nobody's business
        named = str(error).replace(str(call.file), _shown_name(call.file_name))
        raise BadData(named.replace(str(call.file.parent), "")) from None


def _results(desk: Desk, path: Path, name: str) -> Facts:
    """Try a film; return what the page shows, and keep what it may download."""
    file = image_file.read(path)
    lungs = segment_images.segment_image(segment_images.load_lung_model(), file, path)
    folder = path.parent / "results"
    results = _classified(path, folder)
    if desk.study.run.done("train"):
        own, faults = predict_images.predict_images(desk.study.run.folder, [path])
        _refuse_faults(faults)
        results = [*results, *own]
    images = _images(lungs, folder)
    images["download"] = _zipped(folder, results, lungs, name)
    token = desk.results.put(images)
    return _facts(results, lungs, name) | _places(token, images)


def _classified(path: Path, folder: Path) -> list[ImageResult]:
    found, faults = classify_images.classify_images([path], folder, scores=True)
    _refuse_faults(faults)
    return found


def _refuse_faults(faults: Sequence[str]) -> None:
    if faults:
        raise BadData("; ".join(faults))


def _shown_name(name: str) -> str:
    """Return the name of an upload for people: the last part of it, on one line."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(one if one.isprintable() else " " for one in last)[:_LONGEST_NAME] or "film"


def _facts(results: Sequence[ImageResult], lungs: segment_images.LungResult, name: str) -> Facts:
    height, width = lungs.radiograph.size
    scores = [(one, result) for result in results for one in result.scores]
    refused = [result.refused for result in results if result.refused]
    area = lungs.upright_labels.size
    return {
        "name": name,
        "height": height,
        "width": width,
        "processing_log": list(lungs.radiograph.processing_log),
        "quality_flags": [flag.fault for flag in lungs.quality_flags],
        "lungs": {
            "right_fraction": float((lungs.upright_labels == lung_masks.RIGHT).sum() / area),
            "left_fraction": float((lungs.upright_labels == lung_masks.LEFT).sum() / area),
            "quality": lungs.quality,
            "trusted": lungs.quality >= lung_finder.GOOD,
        }
        if lungs.native_labels.any()
        else None,
        "calls": [_call(one) for one, _ in scores],
        "no_call_reason": refused[0] if refused else None,
        "domain": _domain([one for one, _ in scores]),
    }


def _call(one: FindingScore) -> Json:
    return {
        "model": one.model,
        "concept": one.concept,
        "name": "Anomaly" if one.concept == "anomaly" else name_of(one.concept),
        "score": one.score,
        "probability": one.probability,
        "threshold": one.threshold,
        "call": one.call or "no call",
        "reason": one.no_call,
        "warning": one.warning,
        "percentile": one.percentile,
    }


def _domain(scores: Sequence[FindingScore]) -> Json:
    reasons = list(dict.fromkeys(one.no_call for one in scores if one.no_call))
    return {
        "inside": bool(scores) and not reasons,
        "text": "; ".join(reasons) or ("inside the models' domains" if scores else ""),
    }


def _places(token: str, images: Mapping[str, bytes]) -> Facts:
    base = f"/api/v1/try/{token}"
    shown = ("film", "mask", "saliency")
    return {
        "token": token,
        "images": {name: f"{base}/{name}" if name in images else None for name in shown},
        "download": f"{base}/download",
    }


# ---------------------------------------------------------------------------------------- images


def _images(lungs: segment_images.LungResult, folder: Path) -> dict[str, bytes]:
    """Return the film, its lungs and a heat map as PNG of one size."""
    height, width = lungs.radiograph.size
    scale = min(1.0, SHOWN / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    grey = resize(lungs.radiograph.pixels, size)
    low, high = np.quantile(grey, (0.005, 0.995))
    film = to_uint8((grey - low) / max(float(high - low), 1e-6))
    found = {"film": _png(film)}
    if lungs.native_labels.any():
        found["mask"] = _png(_coloured(resize(lungs.upright_labels, size, labels=True)))
    maps = sorted(path for path in folder.glob("*/*.jpg") if path.parent.name != "overlay")
    if maps:
        found["saliency"] = _png(_resized(maps[0], size))
    return found


def _coloured(labels: np.ndarray) -> np.ndarray:
    """Return labels as colours with transparency, uint8 (height, width, 4)."""
    found = np.zeros((*labels.shape, 4), np.uint8)
    for side, colour in _COLOURS.items():
        found[labels == side] = (*colour, _COVER)
    return found


def _resized(path: Path, size: Size) -> np.ndarray:
    decoded = imagecodecs.jpeg_decode(path.read_bytes())
    return cv2.resize(decoded, size[::-1], interpolation=cv2.INTER_AREA)


def _png(pixels: np.ndarray) -> bytes:
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=3))


def _zipped(
    folder: Path,
    results: Sequence[ImageResult],
    lungs: segment_images.LungResult,
    name: str,
) -> bytes:
    """Return everything as a ZIP: overlays, the mask in the file's own pixels, calls and scores."""
    stream = io.BytesIO()
    calls = [{**one.reported(scores=True), "image": name, "name": name} for one in results]
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.writestr(path.relative_to(folder).as_posix(), path.read_bytes())
        values = np.array([0, 127, 255], np.uint8)[lungs.native_labels]
        archive.writestr("lungs.png", _png(values))
        archive.writestr("calls.json", json.dumps(calls, indent=1, ensure_ascii=False))
        archive.writestr("processing.txt", "\n".join(_lines(lungs)))
    return stream.getvalue()


def _lines(lungs: segment_images.LungResult) -> Iterator[str]:
    yield from lungs.radiograph.processing_log
    yield "lungs.png: 127 right lung, 255 left lung, in the file's own pixels"
    yield "For research only; not for diagnosis."


def result(desk: Desk, call: Call) -> Reply:
    """Answer a file of a result."""
    file = call.text("file")
    data = desk.results.get(call.text("token"), file)
    if data is None:
        raise Refusal(404, "this result is not kept any more", "try the film again")
    headers = (
        {"Content-Disposition": f'attachment; filename="{DOWNLOAD}"'} if file == "download" else {}
    )
    return Reply(data, FILES[file], headers=headers)


def forget(desk: Desk, call: Call) -> Reply:
    """Forget a result."""
    desk.results.drop(call.text("token"))
    return as_json({"forgotten": True})


_TOKEN = Parameter("token", Text(60, 20), "name of the result", "path", required=True)
ROUTES = (
    Route(
        "POST",
        "/api/v1/try",
        "What the models say of a film; it is not kept",
        attempt,
        (),
        Body("one PNG, JPEG, TIFF or DICOM file under the name 'file'", FORM),
        slow=True,
    ),
    Route(
        "GET",
        "/api/v1/try/{token}/{file}",
        "A file of a result",
        result,
        (_TOKEN, Parameter("file", Choice(tuple(FILES)), "which file", "path", required=True)),
        media_type=PNG,
    ),
    Route("DELETE", "/api/v1/try/{token}", "Forget a result", forget, (_TOKEN,)),
)
