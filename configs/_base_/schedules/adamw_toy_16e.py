# adamw_toy.py over 16 epochs, for toy sets of few videos. Scored once, at the end.
_base_ = './adamw_toy.py'
train_cfg = dict(max_epochs=16, val_interval=16)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 80, by_epoch=False, begin=0, end=201),
    dict(
        type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=True, begin=0, end=16, T_max=16,
        convert_to_iter_based=True),
]
