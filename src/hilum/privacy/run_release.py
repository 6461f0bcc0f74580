"""What a run passes on, under pseudonyms that are the same in all that it writes.

    private/pseudonyms.key   the key, for its owner alone to read; without it nothing leads back
    private/pseudonyms.csv   kind, pseudonym and what it stands for, likewise

Both stay in the run's folder, and nothing else that Hilum writes holds them. The tables of a run
(manifest.parquet, issues.parquet, scores, corrections and so on) are working files: they have the
real names, because that is what they are joined by. The page of the audit, the report with its
table and model card, the data card and exports are made to be passed on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hilum import storage
from hilum.config import Data, Recipe, Share
from hilum.dataset.manifest import Manifest
from hilum.privacy.pseudonyms import Pseudonyms
from hilum.privacy.release import PassedOn, pass_on
from hilum.revisions import uptake
from hilum.run_folder import Run
from hilum.safety import spreadsheet_cells, untrusted_files

KEY, NAMES = "private/pseudonyms.key", "private/pseudonyms.csv"
_KINDS = ("patient_id", "study", "author", "image_id", "path")


def of_run(run: Run, share: Share, manifest: Manifest | None = None) -> PassedOn:
    """Return a run's manifest as it is passed on; keep what each pseudonym stands for."""
    pseudonyms = Pseudonyms.kept(run.data / KEY)
    authors = uptake.of_run(run)["author"].unique().sort()
    passed = pass_on(manifest or run.manifest(), share, pseudonyms, authors)
    rows = [
        {"kind": kind, "passed on as": new, "stands for": name}
        for kind in _KINDS
        for name, new in sorted(passed.names[kind].items())
        if name != new
    ]
    text = spreadsheet_cells.of_rows(("kind", "passed on as", "stands for"), rows).encode()
    _keep(run.data / NAMES, text)
    return passed


def _keep(path: Path, text: bytes) -> None:
    if not path.exists() or untrusted_files.read_bytes(path) != text:
        storage.write_private(path, text)


def placeless(recipe: Recipe) -> Recipe:
    """Return a recipe in which folders and files are names: where they lie may name a user."""
    data = recipe.data
    folder, *also = (Path(one).name for one in data.folders)
    named = replace(
        data,
        folder=folder,
        also=tuple(also),
        corrections=Path(data.corrections).name,
        annotations=Path(data.annotations).name,
    )
    settings = dict(recipe.classify.settings)
    if settings.get("weights"):
        settings["weights"] = Path(str(settings["weights"])).name
    return replace(
        recipe,
        data=named,
        split=replace(recipe.split, previous=Path(recipe.split.previous).name),
        classify=replace(recipe.classify, settings=settings),
    )


def placed(data: Data) -> str:
    """Name the data folders by themselves and the folders they lie in, but for a user's own."""
    return " and ".join(map(_placed, data.folders))


def _placed(folder: str) -> str:
    path = Path(folder)
    if path.parent == Path.home() or path.parent.parent.name in ("home", "Users"):
        return path.name
    return "/".join(path.parts[-2:]).lstrip("/")


def summary(share: Share) -> dict[str, str]:
    """Return what was written about people, for whoever had it written."""
    names = {"masked": "with pseudonyms in them", "pseudonyms": "pseudonyms", "keep": "kept"}
    readings = {"published": "of public releases only", "keep": "kept", "drop": "left out"}
    identifiers = "kept" if share.keep_identifiers else "pseudonyms"
    return {
        "identifiers": identifiers,
        "file names": names[share.file_names],
        "readings": readings[share.readings],
    }
