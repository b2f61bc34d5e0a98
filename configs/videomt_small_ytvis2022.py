# VidEoMT, ViT-S, on YouTube-VIS 2022 (long videos).
_base_ = [
    './_base_/models/videomt.py', './_base_/datasets/videomt_ytvis2021.py', './_base_/schedules/videomt_160k.py',
    './_base_/default_runtime.py'
]
model = dict(results=dict(direct_masks=_base_.preprocessing == 'transformers'))
default_hooks = dict(checkpoint=dict(interval=8, max_keep_ckpts=3))
