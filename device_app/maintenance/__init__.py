"""Looking after a device: `edge-ct doctor` and `edge-ct device`.

- `commands`  the commands
- `doctor`    checks of model, machine and worklist
- `health`    the state of the machine, as the web page shows it
- `systemd`   systemd units
"""
