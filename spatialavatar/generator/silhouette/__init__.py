"""Hair that the shape space does not cover: the mesh's outline moves out to the silhouettes of the photos.

Vertices on the outline of the posed mesh search along their smoothed normals for the rim of the person in the matte
(``measuring``). The gaps are data of one least-squares problem over all photos and all vertices (``solving``): heights
that close the gaps, bend as little as possible, and are zero on the face. They are added to the rest head, so they
follow every later pose. Ears under hair are smoothed away first (``covered_ears``).
"""

from spatialavatar.generator.silhouette.fit import OutlineFit, fit_outline, fit_silhouette

__all__ = ["OutlineFit", "fit_outline", "fit_silhouette"]
