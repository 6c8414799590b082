#!/bin/sh
# Start a command of envloop in a container. NAME_FILE names a file that holds the value of NAME: it is read where NAME itself
# is unset or empty, so a secret lies in a mounted file and in no compose file and no image.
set -eu
for name in ENVLOOP_TOKEN ENVLOOP_EXPERT_TOKEN DBBENCH_URL HF_TOKEN; do
    eval "value=\${$name:-} file=\${${name}_FILE:-}"
    unset "${name}_FILE"
    if [ -n "$value" ]; then continue; fi
    unset "$name" # an empty variable means: not set
    if [ -z "$file" ]; then continue; fi
    if [ ! -r "$file" ]; then
        echo "envloop: ${name}_FILE names $file, which cannot be read: mount it, or set $name" >&2
        exit 1
    fi
    export "$name=$(cat "$file")"
done
# A mounted folder without games (nothing was put into ./data/alfworld): play generated games only.
if [ -n "${ALFWORLD_DATA:-}" ] && [ -z "$(find "$ALFWORLD_DATA" -mindepth 1 -maxdepth 1 -type d 2>/dev/null)" ]; then
    echo "envloop: no official ALFWorld games in $ALFWORLD_DATA (no folder json_2.1.1): generated games only" >&2
    unset ALFWORLD_DATA
fi
exec "$@"
