"""`edge-ct watch`: judge files as they arrive in a folder.

- `commands`    the command
- `hot_folder`  finding new files, once each
"""
