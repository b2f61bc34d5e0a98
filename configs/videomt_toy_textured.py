# VidEoMT with a small ViT from random weights on textured toy videos: six shapes that hide each other.
# An item is a video: 24 epochs are 2,400 steps of 8 clips of 2 frames, as many frames as the pairs of the other models.
_base_ = [
    './_base_/models/videomt.py', './_base_/datasets/toy_textured.py', './_base_/schedules/adamw_toy.py',
    './_base_/default_runtime.py'
]
model = dict(
    backbone=dict(embed_dims=192, depth=12, num_heads=3, image_size=480, layer_scale=0.1, init_cfg=None),
    head=dict(num_classes=6, num_queries=50),
    criterion=dict(num_points=3136))
train_dataloader = dict(dataset=dict(train_clip_len=2))
train_cfg = dict(max_epochs=24)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 80, by_epoch=False, begin=0, end=201),
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=True, begin=0, end=24, T_max=24,
        convert_to_iter_based=True),
]
