# memcnp_toy_organic.py with the recipe of memcnp_toy_textured_improved.py and, since 60 videos are few, augmentation.
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/toy_organic_improved.py', './_base_/schedules/adamw_toy_16e.py',
    './_base_/default_runtime.py'
]
model = dict(
    graph_training=True,
    backbone=dict(embed_dims=192, num_heads=4, with_cp=False, stem='conv', init_cfg=None),
    neck=dict(in_channels=[192, 192, 192], out_channels=128),
    bbox_head=dict(num_classes=8, in_channels=128, assigner=dict(top_k=9), memory=dict(read_temperature=0.1)))
optim_wrapper = dict(optimizer=dict(lr=8e-4))
default_hooks = dict(checkpoint=dict(interval=4, max_keep_ckpts=1))
