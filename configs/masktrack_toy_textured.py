# MaskTrack R-CNN on the videos of memcnp_toy_textured.py. ResNet-50 from random weights: all stages are trained.
_base_ = [
    './_base_/models/masktrack_r50.py', './_base_/datasets/toy_textured.py', './_base_/schedules/adamw_toy.py',
    './_base_/default_runtime.py'
]
model = dict(
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None),
    bbox_head=dict(num_classes=6),
    mask_head=dict(num_classes=6))
