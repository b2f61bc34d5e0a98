# As sgd_1x.py, with the two-stage detectors' learning rate (8 key/reference pairs a step) and warm-up.
_base_ = './sgd_1x.py'
optim_wrapper = dict(optimizer=dict(lr=0.005))
param_scheduler = [
    # lr · (1 - (1 - i/500)(1 - 1/3)) at iteration i < 500; mmengine counts both ends
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', milestones=[8, 11], gamma=0.1, by_epoch=True, begin=0, end=12),
]
auto_scale_lr = dict(base_batch_size=8)
