#!/usr/bin/env bash
# Make .venv with the pinned requirements, and see to a database server. Safe to run again: what is there is kept.
#   bootstrap.sh            what the demo needs
#   bootstrap.sh --tests    and the reference engine (compiled: needs a C++ compiler), and what else tests play against
#   bootstrap.sh --print-uv only make sure of uv, and print its path
# A missing piece ends with one line that says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[2m• %s\033[0m\n' "$*" >&2; }
fail() { printf '\033[31merror: %s\033[0m\n' "$*" >&2; exit 1; }

have() { # have NAMES...: whether one of these programs is there
    local name
    for name in "$@"; do
        if PATH="$PATH:/usr/sbin:/usr/local/sbin" type -P "$name" >/dev/null; then return 0; fi
    done
    return 1
}

is_python() { # is_python BINARY MINOR: a Python 3 that runs, at least 3.MINOR (a pyenv shim may exist and not run)
    "$1" -c "import sys; sys.exit(sys.version_info < (3, $2))" >/dev/null 2>&1
}

candidates() { # every interpreter worth asking, newest first
    local name
    for name in python3.14 python3.13 python3.12 python3 python; do type -aP "$name" 2>/dev/null || true; done
    for name in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
        if [ -x "$name" ]; then printf '%s\n' "$name"; fi
    done
}

find_python() { # find_python MIN_MINOR MAX_MINOR: the first interpreter in that range
    local binary
    while read -r binary; do
        if is_python "$binary" "$1" && ! is_python "$binary" "$(($2 + 1))"; then
            "$binary" -c 'import sys; print(sys.executable)'
            return
        fi
    done < <(candidates)
    return 1
}

apt_install() { # apt_install PACKAGES...: where we are root and apt is there
    [ "$(id -u)" = 0 ] && type -P apt-get >/dev/null || return 1
    say "installing $* with apt"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; } >/dev/null 2>&1
}

make_tools() { # make_tools PYTHON: a virtual environment that holds uv alone
    rm -rf .tools
    "$1" -m venv .tools >/dev/null 2>&1 && .tools/bin/python -m pip install --quiet --disable-pip-version-check uv >&2
}

find_uv() { # uv on PATH, or our own in .tools
    if [ -x .tools/bin/uv ] && .tools/bin/uv --version >/dev/null 2>&1; then echo "$PWD/.tools/bin/uv"; return; fi
    if type -P uv >/dev/null && uv --version >/dev/null 2>&1; then type -P uv; return; fi
    local any
    any=$(find_python 8 99) || fail "no Python was found; install one: apt-get install python3 python3-venv"
    say "installing uv into .tools"
    make_tools "$any" || { apt_install python3-venv && make_tools "$any"; } ||
        fail "uv could not be installed with $any; install: apt-get install python3-venv (or uv itself)"
    echo "$PWD/.tools/bin/uv"
}

uv=$(find_uv)
if [ "${1:-}" = --print-uv ]; then echo "$uv"; exit; fi
tests=${1:-}

# The pins are tried with 3.12; a newer interpreter is taken only where no 3.12 can be had.
python=$(find_python 12 12) || python=$("$uv" python find 3.12 2>/dev/null) || {
    say "installing Python 3.12"
    "$uv" python install --quiet 3.12 >&2 2>/dev/null && python=$("$uv" python find 3.12)
} || python=$(find_python 12 99) || fail "Python 3.12 or newer is needed; install it (apt-get install python3.12, pyenv install 3.12)"

digest() { cat "$@" pyproject.toml | sha256sum | cut -d' ' -f1; }
install() { # install STAMP REQUIREMENTS...: once for each content of the requirements
    local stamp=.venv/.envloop-$1 want
    shift
    want=$(digest "$@")
    if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then return; fi
    say "installing $* (the first time takes some minutes and about 7 GB)"
    local file args=()
    for file in "$@"; do args+=(--requirement "$file"); done
    "$uv" pip install --quiet --python .venv/bin/python --require-hashes --no-deps "${args[@]}" || return 1
    "$uv" pip install --quiet --python .venv/bin/python --no-deps --editable . || return 1
    echo "$want" >"$stamp"
}

if ! is_python .venv/bin/python 12; then
    say "making .venv with $("$python" --version)"
    "$uv" venv --quiet --clear --python "$python" .venv
fi
install cpu requirements/cpu.txt || fail "the pinned requirements could not be installed; the lines above say which"

if [ "$tests" = --tests ]; then
    if have c++ g++ clang++; then
        install alfworld requirements/alfworld.txt || fail "the reference engine could not be built; the lines above say why"
    else
        say "no C++ compiler: the tests against TextWorld are left out (install: apt-get install g++)"
    fi
fi

# The page of an exported episode is tested in a real browser.
if [ "$tests" = --tests ] && ! have chromium chromium-browser google-chrome; then
    apt_install chromium || say "no Chromium: the browser tests are left out (install: apt-get install chromium)"
fi

# A database server for DB Bench: one on PATH, one named by setting, one by URL, else Debian's where we may install it.
if [ -z "${DBBENCH_URL:-}${DBBENCH_SERVER_BINARY:-}" ] && ! have mariadbd mysqld; then
    apt_install mariadb-server-core mariadb-client-core ||
        fail "no database server; install mariadb-server-core and mariadb-client-core (or mysql-server-core), or set DBBENCH_URL"
fi

# What else the tests play against. Without a piece its tests are left out, and say so.
if [ "$tests" = --tests ]; then
    if [ ! -x .cache/mysql/mysqld ]; then
        say "unpacking MySQL into .cache/mysql"
        scripts/get_mysql.sh .cache/mysql || say "no MySQL: DB Bench is tested on the server found above alone"
    fi
    if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && ! have initdb; then
        apt_install postgresql || say "no PostgreSQL: the tests on it are left out (install: apt-get install postgresql)"
    fi
    want=$(sha256sum requirements/openenv.txt | cut -d' ' -f1)
    if [ "$(cat .cache/openenv/.envloop 2>/dev/null)" != "$want" ]; then # in an environment of its own: it needs other versions than we do
        say "installing requirements/openenv.txt into .cache/openenv"
        mkdir -p .cache
        "$uv" venv --quiet --clear --python "$python" .cache/openenv
        "$uv" pip install --quiet --python .cache/openenv/bin/python --require-hashes --no-deps --requirement requirements/openenv.txt &&
            echo "$want" >.cache/openenv/.envloop || say "no OpenEnv: the tests of its client and validator are left out"
    fi
fi
