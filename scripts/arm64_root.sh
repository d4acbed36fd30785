#!/bin/sh
# Make an emulator of an Arm processor and an arm64 Debian root in FOLDER: scripts/arm64_root.sh FOLDER
#
# The packages come from this machine's Debian sources. They are unpacked into FOLDER and not installed; nothing outside
# FOLDER is changed.
#
#   FOLDER/usr/...  qemu-user, proot, debootstrap     FOLDER/root  arm64, with Python     FOLDER/run COMMAND...  runs in it
#
# If the packages cannot be downloaded, the exit code is 77 and standard error gives the reason.
set -eu
umask 022
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
recipe=$(sha256sum "$0" | cut -c1-64)
if [ "$(cat "$folder/recipe" 2>/dev/null)" = "$recipe" ]; then exit 0; fi

skip() {
    echo "test-arm64: skipped: $*" >&2
    exit 77
}
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the emulated processor is compared with Linux on x86-64, and this machine is $(uname -sm)"
for tool in apt-get dpkg wget; do
    command -v "$tool" >/dev/null || skip "$tool is missing; the emulator and the root are made from Debian packages"
done
. /etc/os-release
[ "$ID" = debian ] || skip "the root is made from Debian's packages, and this system is $ID"

rm -rf "$folder/recipe" "$folder/usr" "$folder/root" "$folder/apt"
mkdir -p "$folder/apt/sources" "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
cd "$folder/apt"

# Copy the machine's package sources, so that more can be added; package lists and cache stay in FOLDER.
if [ -f /etc/apt/sources.list ]; then cp /etc/apt/sources.list sources.list; else : >sources.list; fi
for source in /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    if [ -f "$source" ]; then cp "$source" sources/; fi
done
apt_in_folder() {
    tool=$1
    shift
    "$tool" -qq -o Dir::Etc::SourceList="$PWD/sources.list" -o Dir::Etc::SourceParts="$PWD/sources" \
        -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o APT::Sandbox::User= "$@"
}
apt_in_folder apt-get update >apt.log 2>&1 || skip "the package lists cannot be downloaded: $(tail -n 1 apt.log)"

# QEMU 7.2 of Debian 12 crashes when the TFLite runtime reads the properties of the processor; backports have QEMU 10.
version_of() { apt_in_folder apt-cache policy qemu-user | sed -n 's/^  Candidate: //p'; }
from=
mirror=$(apt_in_folder apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $VERSION_CODENAME" \
    'Component: main' | head -n 1)
[ -n "$mirror" ] || skip "no source of $VERSION_CODENAME is set up on this machine"
if dpkg --compare-versions "$(version_of)" lt 1:10; then
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f "$keyring" ] || skip "debian-archive-keyring is not installed"
    from=/$VERSION_CODENAME-backports
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
        "$mirror" "${from#/}" "$keyring" >sources/backports.sources
    apt_in_folder apt-get update >apt.log 2>&1 || skip "this machine's mirror has no backports: $(tail -n 1 apt.log)"
fi
apt_in_folder apt-get download "qemu-user$from" "qemu-user-static$from" debootstrap proot libtalloc2 >apt.log 2>&1 ||
    skip "qemu 10, debootstrap or proot cannot be downloaded: $(tail -n 1 apt.log)"
for package in *.deb; do dpkg -x "$package" "$folder"; done
find "$folder/usr/bin" -name 'qemu-*' ! -name 'qemu-aarch64' ! -name 'qemu-aarch64-static' -delete

fake=
if [ "$(id -u)" != 0 ]; then
    command -v fakeroot >/dev/null || skip "debootstrap needs root or fakeroot, and fakeroot is not installed"
    fake=fakeroot
fi
echo "arm64: making a root of Debian $VERSION_CODENAME; this is done once and takes about a minute" >&2
DEBOOTSTRAP_DIR="$folder/usr/share/debootstrap" $fake sh "$folder/usr/sbin/debootstrap" --foreign --arch=arm64 \
    --variant=minbase --include=python3,python3-venv,libstdc++6 "$VERSION_CODENAME" "$folder/root" "$mirror" \
    >debootstrap.log 2>&1 || skip "debootstrap: $(tail -n 1 debootstrap.log)"
for package in "$folder/root/var/cache/apt/archives/"*.deb; do dpkg -x "$package" "$folder/root"; done
rm -rf "$folder/root/var/cache/apt" "$folder/root/debootstrap" "$folder/apt"
mkdir -p "$folder/root/edge-ct" "$folder/root/mnt"

# proot shows the root to every process and runs each Arm program in the emulator. A Cortex-A76 is the core of a Raspberry
# Pi 5. Without /sys/devices/system/cpu the runtime does not use XNNPACK, and its results differ.
cat >"$folder/run" <<END
#!/bin/sh
# Run a command in the arm64 root, with the checkout at /edge-ct and this folder at /mnt: run [-b FOLDER:PATH]... COMMAND...
binds=
while [ "\$1" = -b ]; do
    binds="\$binds -b \$2"
    shift 2
done
PATH="$folder/usr/bin:\$PATH" LD_LIBRARY_PATH="$folder/usr/lib/x86_64-linux-gnu" exec proot -r "$folder/root" \\
    -q "qemu-aarch64-static -cpu cortex-a76" -b /proc -b /sys -b /dev -b /tmp -b "$here:/edge-ct" -b "$folder:/mnt" \$binds -w /edge-ct \\
    /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 "\$@"
END
chmod +x "$folder/run"
machine=$("$folder/run" /usr/bin/python3 -c 'import platform; print(platform.machine())' 2>"$folder/run.log") ||
    skip "the emulator does not start: $(tail -n 1 "$folder/run.log")"
[ "$machine" = aarch64 ] || skip "the emulator reports the machine $machine, not aarch64"
echo "$recipe" >"$folder/recipe"
