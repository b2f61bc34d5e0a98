# SipMask-VIS with the network sizes of memcnp_toy_organic.py, on the same videos.
_base_ = [
    './_base_/models/sipmask_vit.py', './_base_/datasets/toy_organic.py', './_base_/schedules/adamw_toy_16e.py',
    './_base_/default_runtime.py'
]
model = dict(
    backbone=dict(embed_dims=192, num_heads=4, with_cp=False, init_cfg=None),
    neck=dict(in_channels=[192, 192, 192], out_channels=128),
    bbox_head=dict(num_classes=8, in_channels=128))
default_hooks = dict(checkpoint=dict(interval=4, max_keep_ckpts=1))
