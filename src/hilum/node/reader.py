"""Apply the models to a film and write its results, as `hilum classify` or `hilum apply` do.

Models are loaded once, before any film comes; a film goes through them once. Its objects lie in
STATE/results/KEY.VERSION/, a folder that is there whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.dicom_out import write
from hilum.dicom_out.equipment import FORMAT
from hilum.errors import NotFound
from hilum.imaging.files import dicom
from hilum.inference import calls, classify_images, model_cards, pretrained, segment_images
from hilum.inference.calls import ImageResult
from hilum.inference.delivery import Findings, ModelIdentity
from hilum.inference.site import Site
from hilum.node.settings import Results, Settings

Read = Callable[[Path, dicom.Dicom], Findings]


@dataclass(frozen=True)
class Reader:
    """The models of a node; `digest` names them with all else that results depend on."""

    read: Read
    digest: str
    options: write.Options

    @classmethod
    def of(cls, settings: Settings) -> Reader:
        """Load the models. Raises `NotFound`, `Damaged`, `Mismatch` or `BadRecipe`."""
        options = _options(settings.results)
        with_run = bool(settings.models.run)
        read, made_by = _of_run(settings) if with_run else _of_bundled(settings)
        digest = storage.digest([FORMAT, made_by, *options.settings, options.presentation])
        return cls(read, digest, options)

    def findings(self, path: Path) -> Findings:
        """Return what the models find in a film. Raises `BadData` where it cannot be read."""
        return self.read(path, dicom.read(path))

    def write(self, path: Path, findings: Findings, to: Path) -> list[str]:
        """Write the results of a film into a new folder; return their SOP Instance UIDs.

        Raises `BadData` where the file changed since it was read, `CannotWrite`.
        """
        uids = []
        shutil.rmtree(to, ignore_errors=True)  # of a process that was killed
        with storage.filling(to) as beside:
            for kind, made in write.made(path, findings, self.options):
                storage.write_bytes(beside / f"{kind.name}.dcm", write.encoded(made))
                uids.append(str(made.SOPInstanceUID))
        return uids


def present(findings: Findings) -> str:
    """Return the findings that a model calls present, separated by commas.

    A model calls only inside its domain, so a film outside of it is never urgent.
    """
    found = [one.concept for one in findings.scores or () if one.call == calls.PRESENT]
    return ",".join(dict.fromkeys(found))


def _options(results: Results) -> write.Options:
    return write.Options(results.labelmap, results.viewer_compat, results.presentation_state)


def _of_bundled(settings: Settings) -> tuple[Read, object]:
    names, chosen = settings.models.names, settings.models.site
    models = [pretrained.named(name) for name in names] or pretrained.pretrained_models()
    site = Site.read(Path(chosen)) if chosen else None
    if site:
        models = [site.own_model(models)]
    if not models:
        raise NotFound(f"{model_cards.NO_MODEL}: install a release of Hilum, or name a run")
    finder = segment_images.load_lung_model()
    at_site = site.digest if site else ""
    identities = [ModelIdentity.of(one.name, one.model, one.calibration) for one in models]

    def read(path: Path, file: dicom.Dicom) -> Findings:
        """Segment and classify a film."""
        result, lungs, _ = classify_images.classify_file(
            models, finder, file, path, path.stem, site=site
        )
        found = segment_images.findings(lungs, file, finder)
        return found.classified(result, identities, at_site)

    for model in (finder, *(one.model for one in models)):
        # Here a model that cannot run ends the node, and no film waits for its loading.
        model(np.zeros((model.contract.size, model.contract.size), np.uint8))
    made_by = [storage.digest_of_file(finder.path), *sorted(one.digest for one in identities)]
    return read, [*made_by, at_site]


def _of_run(settings: Settings) -> tuple[Read, object]:
    from hilum.run_folder import Run
    from hilum.runs.scoring_run import ScoringRun

    scoring = ScoringRun.of(Run(Path(settings.models.run)))

    def read(path: Path, file: dicom.Dicom) -> Findings:
        """Score a film with the run's models."""
        found = scoring.models.of_file(path, file)
        result: ImageResult = scoring.result(path, path.stem, file, found)
        return scoring.findings(file, found, result)

    return read, ["run", scoring.digest]
