#!/bin/sh
# Make an installed Debian root, to try the package in: scripts/debian_root.sh FOLDER [ARCHITECTURE]
#
# It holds what a small device has of what the package needs: Python, systemd and debconf. The release and the mirror are
# those of this machine. Another architecture than this machine's needs its emulator: scripts/with_arm64.sh. Run it as root.
set -eu
umask 022
folder=$1 architecture=${2:-$(dpkg --print-architecture)}
command -v debootstrap >/dev/null || { echo "debian_root: debootstrap is not installed" >&2 && exit 77; }
. /etc/os-release
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $VERSION_CODENAME" 'Component: main' | head -n 1)
[ -n "$mirror" ] || { echo "debian_root: this machine has no sources of $VERSION_CODENAME; run apt-get update" >&2 && exit 77; }
foreign=
[ "$architecture" = "$(dpkg --print-architecture)" ] || foreign=--foreign
debootstrap $foreign --arch="$architecture" --variant=minbase --include=python3,libstdc++6,systemd,debconf \
    "$VERSION_CODENAME" "$folder" "$mirror"
[ -z "$foreign" ] || chroot "$folder" /debootstrap/debootstrap --second-stage
