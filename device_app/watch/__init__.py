"""`edge-ct watch`: judge files as they arrive in a folder.

- `commands`       the command
- `hot_folder`     judging each file once, when it is complete
- `folder_events`  what the kernel reports of a folder
"""
