#!/bin/sh
# Run a command while this machine runs programs of arm64 in an emulator: scripts/with_arm64.sh FOLDER COMMAND...
#
# FOLDER is one that scripts/arm64_root.sh has made. Its emulator is registered with the kernel (binfmt_misc) until the command
# ends, so `chroot` into an arm64 root works, its postinst scripts and apt included. It must run as root.
set -eu
emulator=$(cd "$1" && pwd)/usr/bin/qemu-aarch64-static
shift
name=edge-ct-arm64 registry=/proc/sys/fs/binfmt_misc
[ "$(id -u)" = 0 ] || { echo "with_arm64: run it as root" >&2 && exit 77; }
[ -e $registry/register ] || mount -t binfmt_misc binfmt_misc $registry
[ ! -e $registry/$name ] || { echo "with_arm64: $registry/$name is in use by another call" >&2 && exit 1; }
# The head of an ELF file of 64 bits, little-endian, for the machine 0xb7; F opens the emulator now, outside any root.
printf '%s' ":$name:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:$emulator:F" >$registry/register
trap 'echo -1 >$registry/$name' EXIT
trap 'exit 1' INT TERM
QEMU_CPU=cortex-a76 "$@" # the core of a Raspberry Pi 5
