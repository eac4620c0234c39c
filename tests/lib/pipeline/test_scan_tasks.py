"""How a scan is divided into tasks."""

from bisieve.pipeline.scan_tasks import partitions


def test_compressed_shards_make_more_parts_than_their_bytes() -> None:
    assert partitions(stored=10 * 2**30, stored_compressed=0, at_least=2) == 160
    assert partitions(stored=0, stored_compressed=2**30, at_least=1) == 160
    assert partitions(stored=1000, stored_compressed=0, at_least=3) == 3
