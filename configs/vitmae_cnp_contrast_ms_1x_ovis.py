# The default model on OVIS: 25 classes, more objects per frame.
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/ovis.py', './_base_/schedules/sgd_1x.py',
    './_base_/default_runtime.py'
]
model = dict(
    graph_training='auto',
    data_preprocessor=dict(pad_buckets=[(736, 416), (800, 448), (864, 480), (960, 480)]),
    bbox_head=dict(num_classes=25, test_cfg=dict(max_per_img=20)))
default_hooks = dict(activation_memory=dict(type='ActivationMemoryHook', gib_per_item=5))
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=0.005))
