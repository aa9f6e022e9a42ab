"""What the method can do beside text to video: one file a capability.

Each is a feature: it holds what it needs and, called with a pipeline and a shot, returns the shot
changed. They go one after the other, and none knows another:

    from zs2.shots.init import Init
    from zs2.shots.travel import Travel

    pipe("a ball at night", features=[Init(frames, strength=0.6), Travel({7: "a ball at noon"})])

Their order: Camera and FrameByFrame; what the clip starts from, which is one of Init and Invert,
and Mask after it; Edit, Control and ImagePrompt; Text2VideoZero; Travel; DeepCache; last Between.

`given` is no feature: it is what those that take frames have in common.
"""
