# The default model on OVIS: 25 classes, more objects per frame.
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/ovis.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
model = dict(bbox_head=dict(num_classes=25, test_cfg=dict(max_per_img=20)))
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=0.005))
