"""The steps from each older format to the next, and the way from any of them to the present one."""

import json
from collections.abc import Callable, Mapping

from bisieve.errors import IndexUnusableError
from bisieve.index_format import ELSEWHERE, FORMAT, FORMAT_VERSION, no_manifest
from bisieve.manifest import Manifest
from bisieve.upgrade import from_1, from_2
from bisieve.upgrade.draft import Draft, Fields

STEPS: Mapping[int, Callable[[Fields, Draft], Fields]] = {1: from_1.upgraded, 2: from_2.upgraded}


def to_present(version: int, fields: Fields, draft: Draft, url: str) -> Manifest:
    """The manifest at ``url``, of an older format, as one of the present one; new lists are in ``draft``.

    `IndexUnusableError` where it is not what its format has, or where a list that it names is damaged.
    """
    try:
        software = {FORMAT: str(version), **fields["software"]}
        for step in range(version, FORMAT_VERSION):
            fields = STEPS[step](fields, draft)
        head = {"format": FORMAT, "format_version": FORMAT_VERSION}
        return Manifest.from_json(json.dumps({**head, **fields, "software": software}).encode(), url)
    except IndexUnusableError as error:
        # Scored again into the same place it would be asked to be upgraded first.
        expected, found, _ = error.args
        raise IndexUnusableError(expected, found, f"restore it, or {ELSEWHERE}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise no_manifest(url, f"one of version {version} with other fields") from error
