"""What a reader of TensorBoard's event files sees."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """By name and step the last value, without those that a resumed run has taken back."""
    found: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("*tfevents*")):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)  # then its checksum, the event, its checksum
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            if event.session_log.status == SessionLog.START:
                found = {
                    name: {step: value for step, value in values.items() if step < event.step}
                    for name, values in found.items()
                }
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found
