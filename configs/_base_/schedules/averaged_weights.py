# Moving average of the weights, which is validated, saved and tested; --cfg-options ema_momentum=0 removes it. The
# average spans about 1 / ema_momentum iterations.
ema_momentum = 0.002
custom_hooks = [dict(type='EMAHook', momentum=ema_momentum)] if ema_momentum else []
