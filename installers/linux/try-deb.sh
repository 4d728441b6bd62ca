#!/bin/sh
# Installs a package in a fresh Debian root, starts the app there on a screen in memory with a real
# keyring, removes it, and compares what is left with what was there before.
#
#   try-deb.sh <package.deb> <folder of the root>
#
# Needs root, debootstrap and a Debian mirror.
set -eu
package=$1
root=$2
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

finish() { umount "$root/proc" 2>/dev/null || true; rm -rf "$root"; }
trap finish EXIT
finish
debootstrap --variant=minbase "${DEBIAN_SUITE:-bookworm}" "$root" "$mirror" >/dev/null
mount -t proc proc "$root/proc"
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
install() { inside apt-get -qq install --yes --no-install-recommends "$@" >/dev/null; }
# What the package owns or may leave behind; the caches and lists of the system are its own, and what a
# user made with the app is the user's.
listing() {
    inside find / -xdev \( -path /proc -o -path /home -o -path /tmp -o -path /var/cache -o -path /var/lib/apt \
        -o -path /var/lib/dpkg -o -path /var/log -o -path /root \) -prune -o -print | LC_ALL=C sort
}

# These serve the trial, and so do not count: a screen, a session, a keyring, and a user.
install xvfb xauth dbus gnome-keyring procps
inside useradd --create-home tester
cp "$package" "$root/tmp/app.deb"
# Without their configuration, libraries that were there before would look like the package's.
inside apt-get -qq install --yes --no-install-recommends --simulate /tmp/app.deb >/dev/null
listing >"$root/tmp/before"
install /tmp/app.deb

cat >"$root/tmp/trial.sh" <<'TRIAL'
set -eu
export XDG_RUNTIME_DIR=/tmp/run NO_AT_BRIDGE=1
mkdir -m 700 -p "$XDG_RUNTIME_DIR"
printf test | gnome-keyring-daemon --unlock --components=secrets >/dev/null
restic-manager --data-dir /tmp/app-data --agent-listen 127.0.0.1:9781 >/tmp/app.out 2>&1 &
app=$!
tries=0
until grep -q Serving /tmp/app.out; do
    kill -0 "$app"
    tries=$((tries + 1))
    [ "$tries" -lt 300 ]
    sleep 0.2
done
kill "$app"
wait "$app"
grep -q Stopped /tmp/app.out
TRIAL
if ! inside su tester -c 'xvfb-run -a dbus-run-session -- sh /tmp/trial.sh'; then
    cat "$root/tmp/app.out" 2>/dev/null
    echo "the app did not start and stop in order" >&2
    exit 1
fi
inside restic-manager-headless --version

inside apt-get -qq purge --yes restic-manager >/dev/null
# What nothing needs goes, also where something that stays would merely welcome it.
inside apt-get -qq autoremove --purge --yes -o APT::AutoRemove::RecommendsImportant=false \
    -o APT::AutoRemove::SuggestsImportant=false >/dev/null
listing >"$root/tmp/after"
if ! diff "$root/tmp/before" "$root/tmp/after"; then
    echo "the package left something behind" >&2
    exit 1
fi
echo "installed, started, stopped and removed without a trace"
