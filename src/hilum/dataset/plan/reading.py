"""Understand a folder: gather the evidence in a fixed order and keep what came of it as a `Reading`.

Order: files by content; masks and radiographs; tables and their columns; folders; words of labels; patients. Each stage sees only what
those before it settled. Nothing is written, and no image is decoded but the few that tell masks from radiographs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from hilum.dataset import tables
from hilum.dataset.plan import columns, folders, inventory, joins, labels, lexicon, masks, names
from hilum.dataset.plan import settings as hilum_toml
from hilum.dataset.plan.columns import TableReading
from hilum.dataset.plan.evidence import CERTAIN, LIKELY, STATED, Evidence, shown
from hilum.dataset.plan.folders import Folders
from hilum.dataset.plan.image_index import ImageIndex
from hilum.dataset.plan.inventory import File, Inventory
from hilum.dataset.plan.labels import Vocabulary
from hilum.dataset.plan.masks import Masks, Seen
from hilum.dataset.plan.names import NamedPatients
from hilum.dataset.plan.settings import Settings
from hilum.errors import BadData
from hilum.files import dicom
from hilum.files.dicom import Header

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx", ".parquet", ".jsonl", ".ndjson", ".json", ".gz", ".txt", ".xls", ".ods")


@dataclass
class Reading:
    """A folder as it was understood: what every file is, and how tables, folders and names are read."""

    root: Path
    settings: Settings
    files: Inventory
    evidence: Evidence = field(default_factory=Evidence)
    images: list[File] = field(default_factory=list)
    headers: dict[str, Header] = field(default_factory=dict)
    nobody: str | None = None  # the Patient ID that anonymising left in every header
    masks: Masks = field(default_factory=Masks)
    tables: list[TableReading] = field(default_factory=list)
    table_files: set[str] = field(default_factory=set)
    coco: dict[str, tables.Coco] = field(default_factory=dict)
    folders: Folders = field(default_factory=Folders)
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)  # by source, see `vocabulary_of`
    findings: dict[str, Mapping[str, int]] = field(default_factory=dict)  # state by cell, by "table:column"
    concepts: dict[str, str | None] = field(default_factory=dict)  # concept by "table:column"; None: of the healthy
    table_parts: dict[str, str] = field(default_factory=dict)  # by image path: train.csv lists the training images
    name_labels: dict[str, str] = field(default_factory=dict)
    name_views: dict[str, str] = field(default_factory=dict)
    name_patients: NamedPatients | None = None

    @property
    def settled(self) -> bool:
        return not self.evidence.questions


FOLDERS, NAMES = "folders", "names of files"


def source_of(reading: TableReading, column: str) -> str:
    """Return the name that a column goes by among all tables."""
    return f"{reading.table.name}:{column}"


def understand(root: Path, settings: Settings | None = None) -> Reading:
    """Work out what the folder means. Raises `BadRecipe` for a broken hilum.toml, `BadData` for tables that cannot be read."""
    settings = settings or hilum_toml.read(root) or Settings()
    reading = Reading(root, settings, inventory.survey(root))
    _sort_files(reading)
    if not reading.images:
        return _accounted(reading)
    _read_tables(reading)
    _use_tables(reading)
    _read_folders(reading)
    _settle_labels(reading)
    _settle_patients(reading)
    return _accounted(reading)


# ---------------------------------------------------------------------------------------------------------------------------- files


def _sort_files(reading: Reading) -> None:
    """Divide the files: set aside what is none of the data, list DICOM objects, tell masks from radiographs."""
    evidence, settings = reading.evidence, reading.settings
    unused = [file for file in reading.files.files if matches(file.path, settings.unused)]
    evidence.set_aside("file", [file.path for file in unused], "hilum.toml says that it is not used")
    left_out = {file.path for file in unused}
    kept = [file for file in reading.files.files if file.path not in left_out]
    for kind, reason, severity in (
        ("link", "is a link out of the folder or to a folder, which is not followed", "warning"),
        ("special", "is a pipe, socket or device, which is not opened", "warning"),
    ):
        evidence.set_aside("file", [file.path for file in kept if file.kind == kind], reason, severity)
    clutter = [file.path for file in kept if file.kind == "clutter"]
    evidence.set_aside("file", clutter, "is hidden, or what a system left behind")
    rasters = [file for file in kept if file.kind in inventory.RASTERS]
    reading.masks, photos = masks.find(rasters, lambda path: look(reading.root / path), settings, evidence)
    reading.images = sorted([*photos, *_radiographs(reading, kept)], key=lambda file: file.path)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Tell whether a path is one of the patterns, or lies in a folder that is."""
    return any(fnmatchcase(path, pattern) or path.startswith(pattern.rstrip("/") + "/") for pattern in patterns)


def look(path: Path) -> Seen:
    """Tell by the pixels of one file whether it is a label image."""
    from hilum.files import label_image

    return label_image.seen(path)


def _radiographs(reading: Reading, kept: Sequence[File]) -> list[File]:
    """Return the DICOM files that hold one image; reports, documents and the like are set aside by name."""
    images, other = [], defaultdict(list)
    for file in kept:
        if file.kind != "dicom":
            continue
        try:
            header = dicom.header(reading.root / file.path)
        except BadData:
            images.append(file)  # a damaged radiograph is reported when it is decoded
            continue
        if reason := dicom.object_kind(header):
            other[reason].append(file.path)
        else:
            images.append(file)
            reading.headers[file.path] = header
    for reason, paths in sorted(other.items()):
        reading.evidence.set_aside("file", paths, f"is a DICOM file, but no radiograph: {reason}")
    reading.nobody = dicom.placeholder(reading.headers.values())
    return images


# --------------------------------------------------------------------------------------------------------------------------- tables


def _read_tables(reading: Reading) -> None:
    """Read every table; one that cannot be read is a fault only where hilum.toml names it or its ending is a table's."""
    wanted, faults = reading.settings.tables, []
    skipped = []
    for file in reading.files.of(*inventory.TABLES):
        if matches(file.path, reading.settings.unused):
            continue
        if wanted is not None and not matches(file.path, wanted):
            skipped.append(file.path)
            continue
        try:
            found = tables.read_coco(reading.root / file.path) if file.kind == "json" else None
            if found:
                reading.coco[file.path] = found
                reading.table_files.add(file.path)
                continue
            for table in tables.read(reading.root / file.path, name=file.path):
                reading.tables.append(columns.profile(table, reading.settings))
        except BadData as fault:
            if file.kind == "json":
                continue  # an annotation of another form; it is named as unused below
            faults.append(str(fault).replace(f"{reading.root}/", ""))
    reading.evidence.set_aside("file", skipped, "is not among the tables of hilum.toml")
    absent = [name for name in wanted or () if not any(matches(file.path, [name]) for file in reading.files.files)]
    faults += [f"tables: there is no file '{name}'" for name in absent]
    if faults:
        raise BadData.listing(f"{reading.root}: tables that cannot be read; mend them, or add to hilum.toml: unused = [\"NAME\"]", faults)


def _use_tables(reading: Reading) -> None:
    """Find the image of each row, and what each column holds."""
    index = ImageIndex(reading.images, {path: header.instance for path, header in reading.headers.items() if header.instance})
    held = {path: File(path, "") for path in reading.masks.files}
    mask_index = ImageIndex([*held.values(), *reading.images])
    for table in reading.tables:
        columns.find_images(table, index, reading.settings)
        columns.find_facts(table)
        columns.find_masks(table, mask_index)
        _use_published(table)
        columns.find_rest(table)
    _take_masks_of_columns(reading, mask_index)
    _join_tables(reading)
    _find_table_parts(reading)
    _report_tables(reading)


def _use_published(table: TableReading) -> None:
    for known in lexicon.published():
        if set(known["columns"]) <= set(table.columns) and table.columns[known["column"]].why != "hilum.toml says so":
            table.give(known["column"], "finding" if known["column"] != "EncodedPixels" else "run_lengths", f"column of the {known['title']}")


def _find_table_parts(reading: Reading) -> None:
    """Take the parts of a split from the names of tables where these are of several parts: train.csv and test.csv."""
    named = [(table, _part_of_table(table.table.name)) for table in reading.tables if table.match]
    if len({part for _, part in named if part}) > 1:
        for table, part in named:
            for path in table.match.files.values() if part else ():
                reading.table_parts.setdefault(path, part)


def _part_of_table(name: str) -> str | None:
    words = lexicon.spaced(Path(name).name.partition(".")[0]).split()
    return next((part for word in words if (part := lexicon.part_of(word))), None)


def _take_masks_of_columns(reading: Reading, index: ImageIndex) -> None:
    """Pair masks as columns name them, which counts more than names of files."""
    for table in reading.tables:
        for role, side in (("mask", "lungs"), ("right_mask", "right"), ("left_mask", "left")):
            for name in table.named(role) if table.match else ():
                match = index.match(table.columns[name].filled, table.table.name, numbers=False)
                rows = zip(table.table.frame[table.image].to_list(), table.table.frame[name].to_list(), strict=True)
                for image, mask in rows:
                    path = table.match.files.get(image)
                    if path and mask in match.files:
                        reading.masks.of.setdefault(path, {})[side] = match.files[mask]
                        reading.masks.files.add(match.files[mask])
                    elif path and mask:
                        reading.evidence.set_aside("cell", [f"{table.table.name}: {name} '{mask}'"], "names no mask file", "warning")
    taken = reading.masks.files
    reading.images = [file for file in reading.images if file.path not in taken]


def _join_tables(reading: Reading) -> None:
    """Join the tables without images to those with, until no more can be joined."""
    pending = [table for table in reading.tables if table.match is None]
    attributes = _attributes(reading)
    progress = True
    while pending and progress:
        progress = False
        for table in list(pending):
            found = joins.join(table, attributes)
            if found:
                table.key, table.key_rows = (found.column, found.attribute), found.rows
                if table.columns[found.column].role in ("unused", "binary", "label"):
                    table.give(found.column, "key", f"joins with {found.attribute}")
                attributes += _attributes_of(table, {path: rows[0] for path, rows in found.rows.items()})
                reading.evidence.set_aside(
                    "row", [f"{table.table.name}: {found.column} '{cell}'" for cell in found.missing], "belongs to no image"
                )
                pending.remove(table)
                progress = True


def _attributes(reading: Reading) -> list[joins.Attribute]:
    """Return what images are known by: cells of image tables, folders, headers."""
    found: list[joins.Attribute] = []
    for table in reading.tables:
        if table.match:
            rows: dict[str, int] = {}
            for row, cell in enumerate(table.table.frame[table.image].to_list()):
                if path := table.match.files.get(cell):
                    rows.setdefault(path, row)
            found += _attributes_of(table, rows)
    found += _attributes_of_paths(reading.images)
    for name in ("patient", "study", "series", "accession"):
        values = {path: value for path, header in reading.headers.items() if (value := getattr(header, name, None))}
        if len(set(values.values())) > 1:
            found.append(joins.Attribute(f"the {name} of the DICOM headers", values))
    return found


def _attributes_of(table: TableReading, rows: Mapping[str, int]) -> list[joins.Attribute]:
    found = []
    for name, column in table.columns.items():
        if column.role in ("patient", "study", "unused", "key", "image", "binary") and len(column.filled) > 1:
            cells = table.table.frame[name].to_list()
            values = {path: cells[row] for path, row in rows.items() if cells[row]}
            found.append(joins.Attribute(f"{table.table.name}: {name}", values))
    return found


def _attributes_of_paths(images: Sequence[File]) -> list[joins.Attribute]:
    deepest = max((file.path.count("/") for file in images), default=0)
    found = []
    for level in range(deepest):
        values = {file.path: parts[level] for file in images if len(parts := file.path.split("/")) > level + 1}
        if len(set(values.values())) > 1:
            found.append(joins.Attribute(f"folder {level + 1}", values))
    if patients := names.patients(images, Evidence()):
        values = {file.path: match["patient"] for file in images if (match := names.search(patients.pattern, file))}
        found.append(joins.Attribute("the patient in the names of files", values))
    return found


def _report_tables(reading: Reading) -> None:
    """Decide what each table is; one that belongs to no image is an error unless it can hold nothing of images."""
    foreign = []
    for table in reading.tables:
        file = table.table.name.partition("#")[0]
        if table.match is not None or table.key is not None:
            reading.table_files.add(file)
            _report_rows(reading, table)
        elif _concerns_images(table):
            foreign.append(table)
        else:
            reading.evidence.set_aside("table", [table.table.name], "is a table, but none of images: no column names files or patients")
            reading.table_files.add(file)
    used = [table for table in reading.tables if table.match is not None or table.key is not None]
    labelled = any(table.named("label") or table.named("finding") for table in used)
    for table in foreign:
        reading.table_files.add(table.table.name.partition("#")[0])
        reason = "matches no image of this folder"
        if labelled:
            reading.evidence.set_aside("table", [table.table.name], reason, "warning")
        else:
            _ask_for_image_column(reading, table)


def _concerns_images(table: TableReading) -> bool:
    roles = {role for name in table.columns for role in lexicon.column_roles(name)} & {"image", "patient", "study", "label"}
    looks_like_files = any(
        column.share(lambda cell: cell.casefold().endswith((".png", ".jpg", ".jpeg", ".dcm", ".tif", ".bmp", ".gif"))) > joins.ENOUGH
        for column in table.columns.values()
    )
    return bool(table.columns) and table.table.frame.height > 0 and (looks_like_files or bool(roles))


def _ask_for_image_column(reading: Reading, table: TableReading) -> None:
    likely = next((name for name in table.columns if "image" in lexicon.column_roles(name)), next(iter(table.columns)))
    cells = [f"'{cell}'" for cell in list(table.columns[likely].filled)[:2]]
    files = [f"'{file.path}'" for file in reading.images[:2]]
    reading.evidence.ask(
        f"{table.table.name} matches no image of this folder: its column '{likely}' holds {', '.join(cells) or 'nothing'}, the images are "
        f"called {', '.join(files)}; give it cells that name the files, or leave the table out",
        {"unused": [table.table.name.partition("#")[0]]},
        unused="tables and other files that are not part of the data",
    )


def _report_rows(reading: Reading, table: TableReading) -> None:
    if table.match is None:
        return
    name = table.table.name
    missing = [f"{name}: {table.image} '{cell}'" for cell in table.match.missing]
    reading.evidence.set_aside("row", missing, "names a file that is not there", "warning" if len(missing) < len(table.match.files) else "info")
    if table.match.ambiguous:
        cell, paths = next(iter(table.match.ambiguous.items()))
        reading.evidence.set_aside(
            "row", [f"{name}: {table.image} '{cell}'" for cell in table.match.ambiguous],
            f"names several files, as '{cell}' does {shown(paths)}", "warning",
        )  # fmt: skip
    blank = table.table.frame[table.image].to_list().count("")
    reading.evidence.set_aside("row", [f"{name}: {blank} rows"] if blank else [], f"have no cell in column '{table.image}'", "warning")


# -------------------------------------------------------------------------------------------------------------------------- folders


def _read_folders(reading: Reading) -> None:
    """Set aside unlisted images in folders of which a table lists nothing, and find out what the other folders are."""
    listed = {path for table in reading.tables if table.match for path in table.match.files.values()}
    listed |= {path for table in reading.tables for path in table.key_rows}
    if listed:
        listed_folders = {path.rpartition("/")[0] for path in listed}
        by_folder = [file.path for file in reading.images if file.path not in listed and file.folder not in listed_folders]
        strays = by_folder if not _may_be_data(by_folder, listed) else []
        reading.evidence.set_aside("file", strays, "is an image in a folder of which no table lists any", "warning")
        gone = set(strays)
        reading.images = [file for file in reading.images if file.path not in gone]
        rest = [file.path for file in reading.images if file.path not in listed]
        if rest:
            reading.evidence.set_aside("cell", rest, "is an image that no table lists: it stays, without what tables say", "warning")
    reading.folders = folders.understand([file.path for file in reading.images], reading.settings)


def _may_be_data(paths: Sequence[str], listed: set[str]) -> bool:
    """Tell whether unlisted images lie in folders that are parts or classes like those of listed ones."""
    tops = {name for path in paths for name in path.split("/")[:-1]}
    return bool(tops) and all(lexicon.part_of(name) or lexicon.meaning(name) or lexicon.among(name, "folders", "container") for name in tops)


# --------------------------------------------------------------------------------------------------------------------------- labels


def _settle_labels(reading: Reading) -> None:
    evidence, settings = reading.evidence, reading.settings
    for table in reading.tables:
        if table.match is None and table.key is None:
            continue
        for name in table.named("label"):
            where = f"column '{name}' of {table.table.name} (images by '{table.image or table.key[0]}')"
            cells = table.columns[name].counts
            if found := labels.settle(source_of(table, name), cells, settings, evidence, what=where):
                reading.vocabularies[source_of(table, name)] = found
        _settle_findings(reading, table)
    _settle_folder_labels(reading)
    if not reading.vocabularies and not reading.findings and not evidence.questions and not reading.coco:
        reading.name_labels = names.labels(reading.images)
        if reading.name_labels:
            counts = columns.Counter(reading.name_labels.values())
            if found := labels.settle(NAMES, counts, settings, evidence, what="the names of files"):
                reading.vocabularies[NAMES] = found


def _settle_findings(reading: Reading, table: TableReading) -> None:
    """Take the columns of one finding each, and ask about those whose name or cells are not known."""
    settings, evidence = reading.settings, reading.evidence
    states = {**{word: 1 for word in settings.present}, **{word: 0 for word in settings.absent}, **{word: -1 for word in settings.uncertain}}
    known = {column["column"]: column["finding"] for column in lexicon.published() if set(column["columns"]) <= set(table.columns)}
    for name in [*table.named("finding"), *table.named("run_lengths"), *table.named("stated_finding")]:
        source, column = source_of(table, name), table.columns[name]
        if column.role == "run_lengths":
            said = {cell: int(cell.strip() not in ("", "-1")) for cell in column.counts}
        else:
            said = {cell: states.get(cell, lexicon.state_of(cell)) for cell in column.filled}
        strange = [cell for cell, state in said.items() if state is None]
        if strange:
            _ask_states(evidence, name, table.table.name, strange)
            continue
        meaning = labels.known(name, settings)
        concept = known.get(name) or (meaning.concept if meaning else lexicon.local(name))
        if name in known or meaning or column.role != "run_lengths":
            if meaning and meaning.kind == lexicon.ABSENT:
                said = {cell: {1: 0, 0: 1}.get(state, state) for cell, state in said.items()}
            reading.findings[source], reading.concepts[source] = said, concept
        else:
            evidence.ask(
                f"column '{name}' of {table.table.name} holds outlines of a finding that nothing names",
                {"terms": {name: "local:finding"}}, terms="the finding that the column is of, such as \"pneumothorax\"",
            )  # fmt: skip
    _settle_binary(reading, table)


def _ask_states(evidence: Evidence, name: str, table: str, strange: Sequence[str]) -> None:
    listed = ", ".join(f"'{cell}'" for cell in strange[:6])
    evidence.ask(
        f"column '{name}' of {table}: what {listed} say{'s' * (len(strange) == 1)} of the finding is not known",
        {"present": list(strange[:1]), "absent": list(strange[1:])},
        present="cells that say that the finding is there", absent="cells that say that it is not; uncertain = [\"…\"] for doubtful ones",
    )  # fmt: skip


def _settle_binary(reading: Reading, table: TableReading) -> None:
    """Ask what a column of states is of where its name says nothing and no other labels are known; else name it as unused."""
    other = any(it.named("label") or it.named("finding") or it.named("run_lengths") for it in reading.tables)
    for name in table.named("binary"):
        if other:
            table.give(name, "unused", f"holds states, but '{name}' is no known finding; add it with [terms] {name} = \"local:…\"", certain=False)
        else:
            reading.evidence.ask(
                f"column '{name}' of {table.table.name} holds {shown([repr(cell) for cell in table.columns[name].filled])}, and '{name}' is no known finding",
                {"terms": {name: lexicon.local(name)}},
                terms="the finding that the column is of: a concept, or \"local:…\" for one of your own; unused_columns = [\"…\"] if it is none",
            )


def _settle_folder_labels(reading: Reading) -> None:
    settings, evidence = reading.settings, reading.evidence
    words = columns.Counter(word for file in reading.images if (word := reading.folders.value(file.path, "label")))
    labelled = bool(reading.vocabularies or reading.findings)
    if words and (len(words) > 1 or labels.known(next(iter(words)), settings)):
        if found := labels.settle(FOLDERS, words, settings, evidence, what="the folders"):
            reading.vocabularies[FOLDERS] = found
    for group in reading.folders.unknown:
        counts = columns.Counter({name: sum(name in file.path.split("/")[:-1] for file in reading.images) for name in group})
        if labelled:
            evidence.set_aside("cell", list(group), "is a folder whose name says nothing that is known", "warning")
        else:
            labels.settle(FOLDERS, counts, settings, evidence, what="the folders")


# ------------------------------------------------------------------------------------------------------------------------- patients


def _settle_patients(reading: Reading) -> None:
    reading.name_views = names.views(reading.images)
    evidence = reading.evidence
    column = next((f"column '{name}' of {table.table.name}" for table in reading.tables if (name := table.first("patient")) and (table.match or table.key)), None)
    headers = any(header.patient and header.patient != reading.nobody for header in reading.headers.values())
    in_folders = any(role == "patient" for role in reading.folders.roles.values())
    if reading.settings.patient_pattern:
        evidence.decide("patients", "by patient_pattern", "hilum.toml says so", STATED)
    elif column:
        evidence.decide("patients", f"by {column}", "its name says so")
    elif headers:
        evidence.decide("patients", "by Patient ID of the DICOM headers", "(0010,0020) differs between files", CERTAIN)
    elif in_folders:
        evidence.decide("patients", "by folder", "folders are numbered, few images each, and no class", LIKELY)
    else:
        reading.name_patients = names.patients(reading.images, evidence)
        if found := reading.name_patients:
            evidence.decide("patients", f"by names of files, {found.pattern}", found.why, found.certainty)
        else:
            evidence.decide("patients", "every image is a patient of its own", "nothing names the patients", LIKELY)


# ---------------------------------------------------------------------------------------------------------------------- conservation


def _accounted(reading: Reading) -> Reading:
    """Name every file that nothing above used: what remains is set aside, so that files met = files used + files named."""
    named = {path for aside in reading.evidence.aside if aside.kind == "file" for path in aside.names}
    used = {file.path for file in reading.images} | reading.masks.files | reading.table_files | {inventory.SETTINGS}
    rest = [file.path for file in reading.files.files if file.path not in named | used]
    reading.evidence.set_aside("file", rest, "is no image or table that Hilum reads")
    for table in reading.tables:
        unused = [column for column in table.columns.values() if column.role == "unused"]
        for column in unused:
            severity = "info" if column.certain else "warning"
            reading.evidence.set_aside("column", [f"{table.table.name}: {column.name}"], column.why, severity)
    return reading
