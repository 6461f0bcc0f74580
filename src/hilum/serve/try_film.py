"""Routes that try one film: lungs, quality, calls or why there are none, and where they come from.

The film is classified by `hilum.inference.classify_images`, and by `hilum.runs.predict_images` with
the run's own models where it has some: by the functions of `hilum classify` and `hilum apply`, so
with their results. It lies in a private temporary folder while that lasts, under a name of the
desk's own; what is to be downloaded is kept in memory for some minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hilum.annotations.vocabulary import name_of
from hilum.inference import pretrained
from hilum.inference.calls import FindingScore
from hilum.serve import model_jobs
from hilum.serve.desk import MODELS, Desk
from hilum.serve.facts import Facts
from hilum.serve.parameters import Choice, Parameter, Text
from hilum.serve.replies import PNG, ZIP, Json, Refusal, Reply, as_json
from hilum.serve.routing import FORM, Body, Call, Route

FILES = {"film": PNG, "mask": PNG, "saliency": PNG, "download": ZIP}
DOWNLOAD = "hilum-film.zip"
_LONGEST_NAME = 120  # characters of a file's name that are repeated


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
    run, name = desk.study.run, _shown_name(call.file_name)
    own = run.folder if run.done("train") else None
    found = desk.models.run(model_jobs.film, call.file, own, name)
    token = desk.results.put(found.files)
    return as_json(_facts(found, name) | _places(token, found.files))


def _shown_name(name: str) -> str:
    """Return the name of an upload for people: the last part of it, on one line."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(one if one.isprintable() else " " for one in last)[:_LONGEST_NAME] or "film"


def _facts(found: model_jobs.Film, name: str) -> Facts:
    scores = [one for result in found.results for one in result.scores]
    refused = [result.refused for result in found.results if result.refused]
    lungs = found.lungs
    return {
        "name": name,
        "height": lungs.height,
        "width": lungs.width,
        "processing_log": list(lungs.processing_log),
        "quality_flags": list(lungs.quality_flags),
        "lungs": {
            "right_fraction": lungs.right_fraction,
            "left_fraction": lungs.left_fraction,
            "quality": lungs.quality,
            "trusted": lungs.trusted,
        }
        if lungs.any_lung
        else None,
        "calls": [_call(one) for one in scores],
        "no_call_reason": refused[0] if refused else None,
        "domain": _domain(scores),
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
        work=MODELS,
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
