"""The answers to a series: DICOM objects that are sent back.

- `answers`              which objects answer a series
- `structured_report`    the result as a Comprehensive SR
- `secondary_capture`    the most telling slices with heat map and warning burnt in
- `source_attributes`    attributes that an answer copies from the series it answers
"""
