#!/usr/bin/env bash
# Bring compose.yaml up under a project name and a free port of its own, play one episode of each environment against it from
# outside, take it down and see that nothing is left. Needs a Docker engine (25 or newer) with compose, and `make setup`.
#   compose_smoke.sh [PYTHON]      COMPOSE_FILE may add override files, as for docker compose itself
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
export COMPOSE_PROJECT_NAME=envloop-smoke-$$ COMPOSE_PROFILES='' ENVLOOP_BIND=127.0.0.1 ENVLOOP_PORT=0 ENVLOOP_TOKEN='' DBBENCH_URL=''
ENVLOOP_EXPERT_TOKEN=$("$python" -c 'import secrets; print(secrets.token_urlsafe(32))')
ENVLOOP_VERSION=smoke-$$
export ENVLOOP_EXPERT_TOKEN ENVLOOP_VERSION

down() {
    docker compose down --volumes --remove-orphans --timeout 20 >/dev/null 2>&1
    docker image rm "envloop/envs:$ENVLOOP_VERSION" >/dev/null 2>&1 || true
}
trap 'down || true' EXIT
trap 'exit 130' INT TERM

docker compose up --detach --build --wait --quiet-pull || { docker compose logs --tail 40 >&2; exit 1; }
docker compose ps --format '{{.Service}}: {{.Status}}'
address=$(docker compose port envs 8470)
case $address in 127.0.0.1:*) ;; *) echo "error: published on $address instead of loopback" >&2; exit 1 ;; esac

status() { # status TOKEN: what the server answers to a list of environments with that token
    "$python" - "$address" "$1" <<'PY'
import sys
import httpx
headers = {"Authorization": f"Bearer {sys.argv[2]}"} if sys.argv[2] else {}
print(httpx.get(f"http://{sys.argv[1]}/v1/envs", headers=headers, trust_env=False, timeout=30).status_code)
PY
}
token=$(docker compose exec -T envs cat /run/envloop/server/token)
for case in "none::401" "wrong:not-the-token:401" "generated:$token:200"; do
    IFS=: read -r name given want <<<"$case"
    got=$(status "$given")
    [ "$got" = "$want" ] || { echo "error: with token '$name' the server answered $got, not $want" >&2; exit 1; }
done
"$python" scripts/smoke.py "http://$address"

down
for kind in container volume network; do
    if [ "$kind" = container ]; then list=(docker ps --all); else list=(docker "$kind" ls); fi
    left=$("${list[@]}" --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
    [ -z "$left" ] || { echo "error: a $kind is left behind: $left" >&2; exit 1; }
done
echo "the compose file came up, served both environments, and left nothing behind"
