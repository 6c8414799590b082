#!/usr/bin/env bash
# A MySQL server beside the system, for the tests: its Debian packages and all that they need, the C library included, are
# unpacked into a folder; nothing is installed. Debian's releases carry MariaDB alone, and its unstable suite carries MySQL:
# so it is taken from there, of the mirror that this machine has, and signed by the archive's key. On Ubuntu the machine's
# own suites carry it.
#   get_mysql.sh DIR    makes DIR/mysqld, a program that is run as mysqld is; what is there already is kept
set -euo pipefail

dir=$(realpath -m "${1:?usage: get_mysql.sh DIR}")
if [ -x "$dir/mysqld" ]; then exit 0; fi
type -P apt-get dpkg-deb >/dev/null || { echo "get_mysql: needs apt-get and dpkg-deb" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/envloop-mysql-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{lists/partial,archives/partial,files}
: >"$work/status" # nothing counts as installed, so that every package comes along
cat >"$work/conf" <<CONF
Dir::State "$work";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work";
Dir::Cache::archives "$work/archives";
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Debug::NoLocking "true";
CONF
if [ "$(. /etc/os-release && echo "$ID")" = debian ]; then
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' | awk '$1 !~ /-/ {print $2; exit}')
    [ -n "$mirror" ] || { echo "get_mysql: apt knows no mirror; run apt-get update first" >&2; exit 1; }
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror unstable main" >"$work/sources.list"
    printf 'Dir::Etc::sourcelist "%s";\nDir::Etc::sourceparts "-";\nDir::Etc::preferencesparts "-";\n' "$work/sources.list" >>"$work/conf"
fi
export APT_CONFIG=$work/conf
apt-get -qq update
apt-get -qq --yes --download-only install mysql-server-core >"$work/log" 2>&1 || { tail -3 "$work/log" >&2; exit 1; }
for package in "$work"/archives/*.deb; do dpkg-deb --extract "$package" "$work/files"; done
rm -rf "$work"/files/usr/share/{doc,man,locale,perl} "$work"/files/usr/lib/*/{perl,gconv}* "$dir" "$dir.new"
mkdir -p "$dir.new"
mv "$work/files" "$dir.new/files"

loader=$(cd "$dir.new/files" && ls usr/lib/*/ld-linux-*.so.* | head -1)
cat >"$dir.new/mysqld" <<RUN
#!/bin/sh
# Its own loader and libraries: this machine's C library may be older.
files=\$(dirname "\$(realpath "\$0")")/files
exec "\$files/$loader" --library-path "\$files/$(dirname "$loader")" "\$files/usr/sbin/mysqld" --no-defaults --basedir="\$files/usr" \\
    --lc-messages-dir="\$files/usr/share/mysql" --character-sets-dir="\$files/usr/share/mysql/charsets" "\$@"
RUN
chmod +x "$dir.new/mysqld"
"$dir.new/mysqld" --version >/dev/null
mv "$dir.new" "$dir"
