"""What a head looks like: the Gaussian rasteriser and its backends, and the mesh z-buffer."""
