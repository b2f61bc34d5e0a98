# VidEoMT with a small ViT from random weights on textured toy videos: six shapes that occlude each other.
# An item is a video: 12 epochs are 2,400 steps of 4 clips of 4 frames, as many frames as 8 pairs of the other models.
_base_ = [
    './_base_/models/videomt.py', './_base_/datasets/toy_textured.py', './_base_/schedules/adamw_toy.py',
    './_base_/default_runtime.py'
]
model = dict(
    backbone=dict(embed_dims=192, depth=12, num_heads=3, image_size=480, layer_scale=0.1, init_cfg=None),
    head=dict(num_classes=6, num_queries=50),
    criterion=dict(num_points=3136))
train_dataloader = dict(batch_size=4, dataset=dict(train_clip_len=4))
train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 80, by_epoch=False, begin=0, end=201),
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=True, begin=0, end=12, T_max=12,
        convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=4)
