# Settings common to all configs: hooks, logs, processes.
default_scope = 'mmdet'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    iteration_seed=dict(type='IterationSeedHook'),
    finite_loss=dict(type='FiniteLossHook', max_skipped=0),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    progress=dict(type='ProgressHook'),
    checkpoint=dict(type='AtomicCheckpointHook', interval=1),
    stop=dict(type='StopHook'))

env_cfg = dict(
    cudnn_benchmark=False,  # training sizes vary
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'

randomness = dict(seed=42, deterministic=False)
load_from = None
resume = False
