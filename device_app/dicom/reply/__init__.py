"""The DICOM objects that answer a series.

- `answers`            which objects answer a series
- `structured_report`  the result as a Comprehensive SR
- `secondary_capture`  the most suspicious slices with heat map and warning burned in
- `segmentation`       the opacities of the series as masks
- `source_attributes`  attributes that an answer copies from the series that it answers
"""
