"""SpatialAvatar: one to four portraits to an animatable 3D Gaussian head."""
