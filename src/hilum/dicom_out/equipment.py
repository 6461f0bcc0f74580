"""What made the results: Hilum with its models; and the names, numbers and UIDs of their series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from hilum import __version__
from hilum.dicom_out import uids
from hilum.dicom_out.source import Source
from hilum.inference.delivery import Findings

NAME = "Hilum"
RESEARCH = "RESEARCH USE ONLY"
STATEMENT = (
    "Research use only; not for diagnosis. Made by a computer program and verified by no person."
)
FORMAT = 1  # of the objects: another one has other UIDs


@dataclass(frozen=True)
class Kind:
    """A kind of object: its name, which is that of its file, and its series."""

    name: str
    series_number: int
    description: str


SEGMENTATION = Kind("segmentation", 9101, f"AI lungs - {RESEARCH}")
FINDINGS = Kind("findings", 9102, f"AI findings - {RESEARCH}")
REGIONS = Kind("regions", 9103, f"AI regions - {RESEARCH}")
CAPTURE = Kind("capture", 9104, f"AI summary - {RESEARCH}")
PRESENTATION = Kind("presentation", 9105, f"AI outlines - {RESEARCH}")


class Instance(TypedDict):
    """The arguments of highdicom's objects that say which instance they are."""

    series_instance_uid: str
    series_number: int
    sop_instance_uid: str
    instance_number: int
    manufacturer: str


class Device(TypedDict):
    """The arguments of highdicom's objects that say what made them."""

    manufacturer_model_name: str
    software_versions: str
    device_serial_number: str


@dataclass(frozen=True)
class Origin:
    """A source image and what was found in it by which models, with `settings` of the objects."""

    source: Source
    findings: Findings
    settings: tuple[str, ...] = ()

    @property
    def models(self) -> str:
        """Digest of all that the objects depend on besides the source."""
        found = self.findings
        used = sorted((one.name, one.digest) for one in found.applied)
        parts = [part for pair in used for part in pair]
        made_with = (found.protocol, found.thresholds_from, *self.settings)
        return uids.derived(str(FORMAT), *parts, *made_with)

    def uid(self, *parts: str) -> str:
        """Return a UID of the source image and the models."""
        return uids.derived(str(self.source.header.SOPInstanceUID), self.models, *parts)

    def instance(self, kind: Kind) -> Instance:
        """Return which instance the object of a kind is; one series for those of a source series.

        A reference to it needs `uid(kind.name)`.
        """
        header = self.source.header
        return Instance(
            series_instance_uid=uids.derived(
                str(header.StudyInstanceUID), str(header.SeriesInstanceUID), self.models, kind.name
            ),
            series_number=kind.series_number,
            sop_instance_uid=self.uid(kind.name),
            instance_number=int(header.InstanceNumber),
            manufacturer=NAME,
        )

    def device(self) -> Device:
        """Return what made the objects; the serial number is the first model's digest."""
        return Device(
            manufacturer_model_name=NAME,
            software_versions=__version__,
            device_serial_number=self.findings.applied[0].digest,
        )
