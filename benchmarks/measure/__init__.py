"""Latency, throughput and memory of bundles and runs.

- `bundle`           a bundle: model only, end to end, cold start, memory
- `keras_run`        a run or an ensemble in Keras, on a processor or a GPU; `accelerators` finds the GPU
- `timing`           one query repeated: distribution, drift, and the cost of the timer
- `throughput`       a folder judged by several workers
- `operator_times`   the operators of a graph: multiply-accumulates and time
- `tflite_graph`     graphs cut into parts, or without one of their outputs
- `processes`        whole processes: wall time and peak memory
- `training_epochs`  the epochs of Keras trainings
- `machine`          the machine that was measured: processor, temperature, clock, load
- `mlperf_loadgen`   the SingleStream and Offline scenarios of MLPerf
- `compare`          two measurements: differences beyond noise
- `summary`          a measurement as text
- `kit`              an archive that measures a bundle on a device without network, or over ssh
"""
