"""Qwen3.5: as Qwen3-VL, but most language layers are linear attention with a state: rows only, no packs."""

from dataclasses import replace

from ray_train.model.families import qwen2_5_vl, qwen3_vl

FAMILY = replace(
    qwen3_vl.FAMILY,
    model_type="qwen3_5",
    projector=qwen2_5_vl.FAMILY.projector,
    served_as="",
    interleaved_axes=False,
    why_no_packs="layers of linear_attention, whose state goes from one rollout to the next",
)
