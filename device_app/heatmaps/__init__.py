"""Heat maps: where the evidence for a decision lies.

- `evidence`  the evidence of a judgement, from the class map or from occlusion
- `heatmap`   the heat map, and pictures of it over its slice
- `drawing`   pictures for the web page
"""
