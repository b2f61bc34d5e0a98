# MemCNP with ResNet-50 (pytorch style), OVIS.
_base_ = [
    './_base_/models/memcnp_r50.py', './_base_/datasets/ovis.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        style='pytorch', init_cfg=dict(type='Pretrained', checkpoint='data/weights/resnet50-11ad3fa6.pth')),
    bbox_head=dict(num_classes=25, test_cfg=dict(score_thr=0.02, nms_thr=0.65)))
train_dataloader = dict(batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=0.005))
find_unused_parameters = True  # the head does not use the fifth level
auto_scale_lr = dict(base_batch_size=32)
