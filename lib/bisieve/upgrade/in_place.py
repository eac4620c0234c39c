"""Upgrades an index where it lies: lists first, then its versions, and last the manifest that readers see.

Rows and rejects stay as they are, and so does every fingerprint: who named a version finds it again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bisieve.index import no_index
from bisieve.index_format import FORMAT_VERSION, MANIFEST, require_present, versioned_fields
from bisieve.manifest import Manifest, publish, version_manifest
from bisieve.pointer import Pointer, read_pointer
from bisieve.storage import canonical, join, read_bytes, write_bytes
from bisieve.upgrade.chain import to_present
from bisieve.upgrade.draft import Draft
from bisieve.versions import manifest_files


@dataclass(frozen=True)
class Upgrade:
    """One version of an older format, and what is to be written of it."""

    format_version: int  # that it has
    manifest: Manifest  # that it gets
    draft: Draft
    is_current: bool  # whether it is the one that readers see


def upgrade_index(url: str, dry_run: bool = False) -> list[Upgrade]:
    """Upgrades every version of the index at ``url`` that is of an older format; returns what was to do.

    A run that ends in its midst leaves what readers see as it was.  `IndexUnusableError` where there is no
    index, where it is of a newer format, or where a list is damaged; `StorageError` where a store refuses,
    or when another run has published since.
    """
    index = canonical(url)
    pointer = read_pointer(join(index, MANIFEST))
    if pointer.data is None:
        raise no_index(index)
    found = list(_older(index, pointer, pointer.data))
    if not dry_run:
        for upgrade in found:
            _write(upgrade, pointer)
    return found


def _older(index: str, pointer: Pointer, data: bytes) -> Iterator[Upgrade]:
    """What is to do, the oldest version first, as they are listed by their age, and the current one last."""
    current = _upgrade(index, pointer.url, data, is_current=True)
    own_copy = current and join(index, version_manifest(current.manifest.fingerprint))
    for file in sorted(manifest_files(index), key=lambda file: file.modified):
        if file.url != own_copy and (other := _upgrade(index, file.url, read_bytes(file.url))):
            yield other
    if current:
        yield current


def _upgrade(index: str, url: str, data: bytes, is_current: bool = False) -> Upgrade | None:
    version, fields = versioned_fields(data, url)
    if version >= FORMAT_VERSION:
        require_present(version, url)
        return None
    draft = Draft(index, str(fields.get("fingerprint")))
    return Upgrade(version, to_present(version, fields, draft, url), draft, is_current)


def _write(upgrade: Upgrade, pointer: Pointer) -> None:
    index, manifest = upgrade.draft.index, upgrade.manifest
    upgrade.draft.save()
    if upgrade.is_current:
        publish(pointer, index, manifest)
    else:
        write_bytes(join(index, version_manifest(manifest.fingerprint)), manifest.to_json())
