# vitmae_cnp_contrast_ms_1x_improved.py on OVIS: 25 classes, more objects per frame. Not measured on OVIS.
_base_ = [
    './_base_/models/memcnp_vit.py', './_base_/datasets/ovis_improved.py', './_base_/schedules/adamw_1x_layer_decay.py',
    './_base_/schedules/averaged_weights.py', './_base_/default_runtime.py'
]
model = dict(
    graph_training='auto',
    bbox_head=dict(
        num_classes=25, assigner=dict(top_k=9), memory=dict(read_temperature=0.1), test_cfg=dict(max_per_img=20)))
default_hooks = dict(activation_memory=dict(type='ActivationMemoryHook', gib_per_item=5))
train_dataloader = dict(batch_size=4)
