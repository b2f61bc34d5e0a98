# MemCNP with a small ViT on textured toy videos: six shapes that occlude each other. Minutes on one GPU.
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/toy_textured.py', './_base_/schedules/adamw_toy.py',
    './_base_/default_runtime.py'
]
model = dict(
    graph_training=True,
    backbone=dict(embed_dims=192, num_heads=4, with_cp=False, init_cfg=None),
    neck=dict(in_channels=[192, 192, 192], out_channels=128),
    bbox_head=dict(num_classes=6, in_channels=128))
