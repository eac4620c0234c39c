"""Qwen3-VL: as Qwen2.5-VL, with larger patches, and mergers for several layers of the vision encoder."""

from dataclasses import replace

from ray_train.model.families import qwen2_5_vl

FAMILY = replace(
    qwen2_5_vl.FAMILY,
    model_type="qwen3_vl",
    processor="Qwen3VLProcessor",
    projector=("model.visual.merger.", "model.visual.deepstack_merger_list."),
    served_as="Qwen3VLForSequenceClassification",
    interleaved_axes=True,
    # The same number of tokens as Qwen2.5-VL: a token is 32 × 32 pixels instead of 28 × 28.
    image_options=lambda tiles: qwen2_5_vl.sized(32, tiles),
)
