"""What the method can do beside text to video: one file a capability.

Each is a feature: it holds what it needs and, called with a pipeline and a shot, returns the shot
changed. They go one after the other, and none knows another:

    from zs2.shots.init import Init
    from zs2.shots.travel import Travel

    pipe("a ball at night", features=[Init(frames, strength=0.6), Travel({7: "a ball at noon"})])

A clip has one start: of Init, Invert and another method's only one, and FrameByFrame comes first.
Control comes after these, and before Text2VideoZero.
"""
