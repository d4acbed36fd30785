"""How a file, a folder or a DICOM object becomes judgements; every command uses this code.

- `sources`        names on a command line -> sources
- `judge`          source -> judgements of its slices
- `pool`           sources -> judgements, on worker processes that may end over a file
- `pipeline`       sources -> judgements in order, with work waiting for each worker of a pool
- `worker`         a worker process and its limits
- `fork_server`    the process that loads a bundle and forks workers
- `incidents`      files over which workers have ended
- `entries`        judgement -> row of a worklist
- `dicom_frames`   attributes of each frame of a DICOM object, and which frames are skipped
- `dicom_objects`  DICOM files, folders and DICOMDIR -> judged frames
- `series`         judged frames -> results of series
- `rollup`         slices -> summaries of series and patients, and their counts
"""
