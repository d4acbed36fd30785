"""`edge-ct classify --cluster`: an archive judged on a Ray cluster, for retrospective studies.

- `archive`        cuts the archive into blocks, and runs or resumes the study
- `block_workers`  Ray actors, each with a classifier, and what happens when one is lost
- `block_judge`    the process of an actor that judges a block
- `parquet_parts`  one Parquet file for each block
"""
