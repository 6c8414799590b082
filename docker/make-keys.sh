#!/bin/sh
# Make what the services share and nobody needs to choose: the database's password and the env server's token, at random, once.
# They live in volumes of the compose project; `docker compose down -v` forgets them.
#   make-keys.sh DB_FOLDER SERVER_FOLDER
set -eu
umask 022 # the database's container reads its file as another user; only the containers that need a folder mount it
random() { python3 -c 'import secrets; print(secrets.token_urlsafe(32), end="")'; }
put() { # put FILE VALUE: whole or not at all
    printf '%s' "$2" > "$1.new"
    mv "$1.new" "$1"
}
db=$1 server=$2
if [ ! -s "$db/url" ]; then
    password=$(random)
    put "$db/password" "$password"
    put "$db/url" "mysql://root:$password@db:3306"
fi
if [ ! -s "$server/token" ]; then put "$server/token" "$(random)"; fi
echo "keys are ready"
