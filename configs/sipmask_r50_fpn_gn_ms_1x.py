# SipMask-VIS, ResNet-50 (pytorch style), YouTube-VIS. 6 pairs on each of 4 GPUs.
_base_ = [
    './_base_/models/sipmask_r50.py', './_base_/datasets/yvis_ms_640x360.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
train_dataloader = dict(batch_size=6)
optim_wrapper = dict(optimizer=dict(lr=0.005))
auto_scale_lr = dict(base_batch_size=24)
