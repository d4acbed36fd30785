"""How a file, a folder or a DICOM object becomes judgements: one path for every command.

- `judge`          sources -> judgements, in input order
- `dicom_frames`   what a DICOM object says of each of its frames, and which frames are skipped
- `dicom_objects`  DICOM files, folders and DICOMDIR -> judged frames
- `series`         judged frames -> results of series
- `rollup`         slices -> series and patients, and their counts
"""
