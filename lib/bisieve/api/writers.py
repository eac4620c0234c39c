"""Write a selection with its text. `Selection` imports this only then, since scoring needs none of it."""

from collections.abc import Callable

from bisieve.errors import UsageError
from bisieve.events import EventSink, counted
from bisieve.index.reader import Index, check_shards_unchanged
from bisieve.index.selection import Selection
from bisieve.io.urls import check_names_lines, real_path
from bisieve.records.embedded_images import Save
from bisieve.tools.export import check_target, export_mprm_jsonl, export_records
from bisieve.tools.formats.hf_dataset import export_hf_dataset
from bisieve.tools.formats.registry import FOLDERS, HF_DATASET, LINE_FORMATS, MPRM, RECORDS, check_options
from bisieve.tools.formats.write import Written, export_lines
from bisieve.tools.image_folder import ImageFolder, refuse


def write_jsonl(selected: Selection, index: Index, url: str, images: str | None, progress: EventSink) -> int:
    """Write the paper's training file; see `bisieve.Selection.write_jsonl`."""
    save = _save(index, url, images)
    return export_mprm_jsonl(selected, url, selected.parameters.threshold, save, _wrote(selected, progress))


def write_records(
    selected: Selection, index: Index, folder: str, images: str | None, progress: EventSink
) -> int:
    """Write the records as they are; see `bisieve.Selection.write_records`."""
    save = _save(index, folder, images, is_folder=True)
    return export_records(selected, folder, save, _wrote(selected, progress))


def write_format(
    selected: Selection, index: Index, url: str, format: str, images: str | None, image_root: str | None,
    skip_unsupported: bool, progress: EventSink,
) -> Written:  # fmt: skip
    """Write a format of another trainer; see `bisieve.Selection.write_format`."""
    if format in (MPRM, RECORDS):
        hint = "call write_jsonl" if format == MPRM else "call write_records"
        raise UsageError("a format of another trainer", format, hint)
    check_options(format, images=images, image_root=image_root, skip_unsupported=skip_unsupported)
    save = _save(index, url, images, is_folder=format in FOLDERS)
    wrote = _wrote(selected, progress)
    if format == HF_DATASET:
        return Written(export_hf_dataset(selected, url, image_root or "", wrote), [])
    root = image_root or images or ""
    if images and real_path(root) != real_path(images):
        raise UsageError(
            f"one folder of all images, as --format {format} names one", f"{images} beside {root}",
            "give the --image-root as --images, too",
        )  # fmt: skip
    return export_lines(selected, url, LINE_FORMATS[format], save, root, skip_unsupported, wrote)


def _wrote(selected: Selection, progress: EventSink) -> Callable[[int], None]:
    return counted(progress, "export", selected.rows.num_rows, "rollouts")


def _save(index: Index, output: str, images: str | None, is_folder: bool = False) -> Save:
    """Check the outputs and the shards; return what is done with an image inside a record."""
    check_target(index, output, is_folder)
    if not is_folder:
        check_names_lines(output, "--output")
    if images:
        check_target(index, images, flag="--images")
    check_shards_unchanged(index)
    return ImageFolder(images).save if images else refuse
