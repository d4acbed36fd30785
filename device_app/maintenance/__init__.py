"""Maintenance of a device: `edge-ct doctor` and `edge-ct device`.

- `commands`  the commands
- `doctor`    checks of model, machine and worklist
- `health`    the state of the machine, and the limits that the doctor and the web page judge it by
- `systemd`   systemd units
"""
