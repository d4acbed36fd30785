"""Operating-system work below the contract of the floor.

- `files`          atomic writes and locks
- `progress`       progress on standard error, JSON on standard output
- `host`           processor, memory, temperature and clock of this machine
- `malloc`         settings of the C library's allocator
- `native_output`  silence for native libraries that write to standard error
- `csv_text`       reading and writing tables as CSV
- `child_command`  running an `edge-ct` command and keeping what it prints
- `ray_cluster`    connecting to a Ray cluster
- `cluster_command_options`  the value of `--cluster`
"""
