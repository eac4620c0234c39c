"""All formats of ``bisieve export --format``, by name.

To add a format of JSON lines, write a `LineFormat` in a module beside this one, and add it to `LINE_FORMATS`.
"""

from bisieve._text import did_you_mean
from bisieve.errors import UsageError
from bisieve.tools.formats.chat import INTERNVL, MS_SWIFT, SHAREGPT
from bisieve.tools.formats.line_format import LineFormat
from bisieve.tools.formats.trl import TRL

MPRM, RECORDS, HF_DATASET = "mprm-jsonl", "records", "hf-dataset"

LINE_FORMATS: dict[str, LineFormat] = {format.name: format for format in (TRL, MS_SWIFT, SHAREGPT, INTERNVL)}

FORMATS: dict[str, str] = {  # name → what is written, for ``--help``
    MPRM: "the paper's training file",
    RECORDS: "a corpus: the records as they are, a file a source",
    **{name: format.content for name, format in LINE_FORMATS.items()},
    HF_DATASET: "a folder for the Hugging Face hub: Parquet with images, README.md, croissant.json",
}

FOLDERS = (RECORDS, INTERNVL.name, HF_DATASET)  # formats whose output is a folder

_USES = {  # option → formats that it has an effect on
    "--images": (MPRM, RECORDS, *LINE_FORMATS),
    "--image-root": (INTERNVL.name, HF_DATASET),
    "--skip-unsupported": tuple(LINE_FORMATS),
}


def check_options(format: str, **given: object) -> None:
    """Check that each option that is given has an effect on ``format``.

    Args:
        format: Name of the format.
        given: The values of options by name, as in ``image_root``; empty if not given.

    Raises:
        UsageError: There is no such format, or an option is for others.
    """
    if format not in FORMATS:
        raise UsageError(
            f"a --format: {', '.join(FORMATS)}", format, did_you_mean(format, FORMATS) or "correct it"
        )
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value and format not in _USES[option]:
            raise UsageError(f"no {option} with --format {format}", str(value), f"omit {option}")
