"""Heat maps: where the evidence for a decision lies.

- `evidence`        the evidence of a judgement, from the class map or from occlusion
- `heatmap`         the heat map, and pictures of it over its slice
- `slice_pictures`  a slice and its heat map as pictures for the web page
"""
