"""Heat maps: where the evidence for a decision lies.

- `evidence`  the evidence map of a judgement, from the class map or from occlusion
- `heatmap`   the map drawn over its slice
- `drawing`   pictures for the web page
"""
