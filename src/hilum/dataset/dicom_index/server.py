"""Index the radiographs of a DICOMweb server by QIDO-RS (PS3.18 section 10.6).

The server is queried for images of the modalities of radiographs, a page at a time, and for the
attributes that decide on them; no image is fetched. What a server leaves out is not known, so an
image may be refused here of which the file states more.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hilum.dataset.dicom_index.frontal import MODALITIES
from hilum.dataset.dicom_index.index import Collector, FilmIndex
from hilum.errors import BadData, BadRecipe, CannotRead, MissingExtra
from hilum.imaging.files import dicom
from hilum.progress import Progress, quietly
from hilum.safety import web
from hilum.safety.addresses import without_secrets
from hilum.safety.loopback import is_loopback
from hilum.safety.web import Login
from hilum.storage import JsonObject

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient
    from requests import PreparedRequest, Response

PAGE = 100  # images of one answer
MOST_IMAGES = 1_000_000
_INSTANCE = "00080018"
FIELDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "Modality",
    "PresentationIntentType",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "ImageLaterality",
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "StudyDate",
    "StudyTime",
    "Rows",
    "Columns",
    "NumberOfFrames",
)


@dataclass(frozen=True)
class Server:
    """A DICOMweb server: its address, and what it demands of those who come."""

    url: str
    login: Login = Login()

    def __post_init__(self) -> None:
        if wrong := web.fault_of_address(self.url):
            raise BadRecipe(f"the address of a DICOMweb server {wrong}")
        if self.login.headers and web.is_open(self.url):
            raise BadRecipe(
                f"a password or token would travel to {urlsplit(self.url).hostname} in the open; "
                "use https"
            )

    def client(self) -> DICOMwebClient:
        """Return a client of the server. Raises `MissingExtra` without the extra."""
        with MissingExtra.explained("dicom", "querying a DICOMweb server"):
            from dicomweb_client.api import DICOMwebClient
            from dicomweb_client.session_utils import create_session
        session = create_session()
        session.trust_env = not is_loopback(urlsplit(self.url).hostname or "")
        session.verify = self.login.ca or True
        session.hooks["response"] = [_bounded]
        if self.login.headers:
            session.auth = self._signed  # as a header alone, a .netrc would replace it
        client = DICOMwebClient(self.url.rstrip("/"), session=session, timeout=web.SILENCE_SECONDS)
        client.set_http_retry_params(retry=False)
        return client

    def _signed(self, request: PreparedRequest) -> PreparedRequest:
        request.headers.update(self.login.headers)
        return request


def _bounded(response: Response, **_: object) -> Response:
    """Take an answer into memory, up to a limit; the library would take any.

    Raises `BadData` for a longer one, `CannotRead` where it is cut short, and for a redirect: the
    query, which may name a patient, would go elsewhere.
    """
    from urllib3.exceptions import HTTPError

    place = without_secrets(response.url)
    if response.is_redirect:
        target = without_secrets(response.headers["Location"])
        raise CannotRead(f"{place} leads on to {target}; give the address of the server itself")
    try:
        body = response.raw.read(web.LONGEST_LIST + 1, decode_content=True)
    except HTTPError as error:
        raise CannotRead(f"{place}: the answer was cut short ({type(error).__name__})") from error
    if len(body) > web.LONGEST_LIST:
        raise BadData(
            f"{place} answered with more than {web.LONGEST_LIST:,} bytes; expected a page of a "
            "list: check the address, and the server's log"
        )
    response.raw = io.BytesIO(body)
    return response


def index_of(
    server: Server, filters: Mapping[str, str] | None = None, progress: Progress = quietly
) -> FilmIndex:
    """Return the index of a server's radiographs; places are their WADO-RS addresses.

    `filters` narrow the query by attributes, such as {"PatientID": "…"} or {"StudyDate":
    "20200101-"}. Raises `BadData` for answers that are none, `CannotRead` where there is no answer,
    `MissingExtra` without the extra.
    """
    collector = Collector()
    for number, answer in enumerate(_answers(server, dict(filters or {})), start=1):
        progress(number, 0)
        header = dicom.header_of_answer(_dataset(answer, server.url), server.url)
        uids = (header.study, header.series, header.instance)
        if not all(uids):
            collector.note(f"{server.url}: an answer does not state which image it is; left out")
            continue
        study, series, instance = uids
        place = f"{server.url.rstrip('/')}/studies/{study}/series/{series}/instances/{instance}"
        collector.add(header, place)
    return collector.index()


def _answers(server: Server, filters: dict[str, str]) -> Iterator[JsonObject]:
    """Yield all answers; a page without a new image is the last, whatever a server's limits are."""
    client = server.client()
    met: set[str] = set()
    for modality in MODALITIES:
        offset = 0
        while page := _page(client, server.url, filters | {"Modality": modality}, offset):
            offset += len(page)
            found = {first_value(one, _INSTANCE): one for one in page}
            fresh = {uid: one for uid, one in found.items() if uid not in met}
            if not fresh:
                break
            met.update(fresh)
            yield from fresh.values()
            if len(met) > MOST_IMAGES:
                raise BadData(
                    f"{server.url} has more than {MOST_IMAGES:,} radiographs; narrow the query, "
                    f"for example by StudyDate"
                )


def first_value(answer: JsonObject, tag: str) -> str:
    """Return the first value of an attribute of DICOM JSON (PS3.18 F) as text; "" without one."""
    stated = answer.get(tag)
    values = stated.get("Value") if isinstance(stated, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


def _page(
    client: DICOMwebClient, url: str, filters: dict[str, str], offset: int
) -> list[JsonObject]:
    import requests

    try:
        found = client.search_for_instances(
            search_filters=filters, fields=list(FIELDS), limit=PAGE, offset=offset
        )
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise CannotRead(
            f"{url} answered a query with {status}; check the address and what you may see"
        ) from error
    except (requests.JSONDecodeError, ValueError, RecursionError) as error:
        raise BadData(
            f"{url} answered a query with something else than DICOM JSON; is it the address of a "
            f"DICOMweb server, such as http://localhost:8042/dicom-web?"
        ) from error
    except (requests.RequestException, OSError) as error:
        raise CannotRead(
            f"{url} does not answer ({web.reason(error)}); check the address and the server"
        ) from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadData(f"{url} answered a query with something else than a list of images")
    return found


def _dataset(answer: JsonObject, url: str):
    from pydicom import Dataset

    wanted = {tag: answer[tag] for tag in _tags() if tag in answer}
    try:
        with dicom.quietly():
            return Dataset.from_json(wanted)
    except Exception as error:
        raise BadData(
            f"{url}: an answer to the query is no DICOM JSON ({type(error).__name__}); see the "
            f"server's log"
        ) from error


def _tags() -> tuple[str, ...]:
    from pydicom.datadict import tag_for_keyword

    return tuple(f"{tag_for_keyword(keyword):08X}" for keyword in FIELDS)
